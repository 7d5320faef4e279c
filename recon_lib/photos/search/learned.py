"""stub"""


def lacks() -> str:
    return ""


def matchers() -> list:
    return []
