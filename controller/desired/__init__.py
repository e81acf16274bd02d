"""The desired children of an AvatarAgent, one kind per file. Pure: the same input gives the same document."""
