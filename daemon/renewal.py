"""When a login may have to be renewed, so that one worker should talk to the service first: pure.

All CLI processes of a user share one login, and the token that renews it counts once: processes
that renewed it at the same time have logged users out. The CLI renews by itself, in its next
request, from 5 minutes before its access token ends. When that is, it does not tell
(`loginExpiresAt` of `claude auth status` is the end of the login as a whole, measured with
2.1.330), and the daemon reads no token. So a login counts as proved for as long as that margin.
"""

from maxd.workers.cli import Login

# The CLI's own margin before the end of its access token.
PROVED_SECONDS = 300.0
# From here on the CLI itself warns that one must log in again (2.1.330).
EXPIRING_SECONDS = 3 * 86_400.0
# Those that are renewed. API keys, `claude setup-token` and other providers are not.
_RENEWED = frozenset(("claude.ai",))


def needs_proof(login: Login | None, since_proof: float | None, now: float) -> bool:
    """Whether a turn that begins at `now` (epoch seconds) may be the one that renews `login`.

    `since_proof` is how many seconds ago the service has begun to answer a turn, None if never.
    """
    if login is None or login.method not in _RENEWED:
        return False
    if since_proof is None or since_proof > PROVED_SECONDS:
        return True
    return login.expires_at is not None and login.expires_at - now <= PROVED_SECONDS


def is_expiring(login: Login, now: float) -> bool:
    """Whether its owner should log in anew soon."""
    return login.expires_at is not None and login.expires_at - now <= EXPIRING_SECONDS
