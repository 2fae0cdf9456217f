from mmgkeras.errors import InputFaultsError, counted


def test_one_is_counted_in_the_singular() -> None:
    assert [counted(number, "image") for number in (0, 1, 1200)] == ["0 images", "1 image", "1,200 images"]
    assert [counted(number, "patch") for number in (1, 2)] == ["1 patch", "2 patches"]
    assert counted(2, "region or patch", "regions or patches") == "2 regions or patches"
    assert InputFaultsError(["fault"] * 1001).faults[-1] == "and 1 more fault"
