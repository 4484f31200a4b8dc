import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: the image is built while the others run."""
    items.sort(key=lambda item: item.path.name != "test_image.py")
