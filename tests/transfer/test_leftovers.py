"""What is said of an upload that could not be aborted."""

import warnings

import pytest

from s3dlio.transfer.leftovers import warn_of


@pytest.mark.parametrize(
    ("scheme", "target", "remedy"),
    [
        ("s3", "s3://bucket/a/b", "aws s3api list-multipart-uploads --bucket bucket"),
        ("gs", "gs://bucket/b", "lifecycle rule of the bucket bucket"),
        ("az", "az://container/b", "Azure removes them after a week"),
        ("direct", "direct:///d/b", "Remove the files .s3dlio-*.tmp"),
        ("", "some/{b}", "Look for what belongs to no object there."),
    ],
)
def test_it_names_the_target_and_the_remedy(scheme, target, remedy):
    with pytest.warns(RuntimeWarning) as caught:
        warn_of("copy", [target], scheme, KeyboardInterrupt())
    (said,) = [str(one.message) for one in caught]
    assert said.startswith(f"copy {target}: ")
    assert remedy in said
    assert "\n" not in said


def test_it_names_a_few_of_many():
    with pytest.warns(RuntimeWarning, match=r"^copy m://0, m://1, m://2 and 2 more: "):
        warn_of("copy", [f"m://{n}" for n in range(5)], "memory", KeyboardInterrupt())


def test_it_does_not_hide_the_interrupt_where_warnings_are_errors():
    error = KeyboardInterrupt()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of("upload", ["s3://b/k"], "s3", error)
    (note,) = error.__notes__
    assert note.startswith("upload s3://b/k: ")
