"""The variables that make a CLI use the loopback model instead of the service."""


def environment(base_url: str, home: str, *, subscription: bool = False) -> dict[str, str]:
    """Variables that point a CLI at the loopback model at `base_url`, with the home `home`.

    Lay them over a small environment (PATH and the like), not over all of the user's: an
    inherited CLAUDE_CONFIG_DIR or ANTHROPIC_AUTH_TOKEN would lead back to the real login.
    `subscription` gives the CLI a login of the kind that has usage windows; only such a CLI
    speaks of them (`rate_limit_event`). Both credentials are made up.
    """
    variables = {
        "ANTHROPIC_BASE_URL": base_url,
        "HOME": home,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        # A proxy in the environment must not be asked for loopback.
        "NO_PROXY": "127.0.0.1",
    }
    if subscription:
        variables["CLAUDE_CODE_OAUTH_TOKEN"] = "sk-ant-oat01-loopback"
    else:
        variables["ANTHROPIC_API_KEY"] = "loopback"
    return variables
