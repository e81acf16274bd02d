"""This machine as a platform: the real cluster, LiveKit, images, simulated providers and the demo."""

import os

# Debian leaves these off a user's PATH, and with them iptables, sysctl, debootstrap and what daemons of ours run.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
