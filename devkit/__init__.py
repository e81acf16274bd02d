"""Runs this machine as a platform: a real cluster, LiveKit, images, simulated providers and the demo."""

import os

# A Debian user's PATH lacks these folders, which contain iptables, sysctl, debootstrap and programs that daemons run.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
