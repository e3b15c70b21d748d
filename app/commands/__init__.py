"""The commands of ``vitrail``, one file each. Nothing here is imported before its command is asked for."""
