"""``python -m avatar_agent``: the command line `avatar-agent`."""

from avatar_agent.local.cli import main

if __name__ == "__main__":
    main(prog_name="avatar-agent")
