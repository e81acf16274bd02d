"""The objects that an AvatarAgent becomes, one a file. Pure: the same input gives the same document."""
