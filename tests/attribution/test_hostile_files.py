"""Files of strangers: each is refused in one line, or shows nothing but what the page's own are."""

import pytest
from support.hostile_files import drafts, hostile_file, loaded, use, use_together

FEW = 300
MANY = 10_000


def attack(seeds, folder):
    """Load and use the file of each seed; return how many loaded."""
    count = 0
    for seed in seeds:
        path = folder / "hostile"
        path.write_bytes(hostile_file(seed))
        try:
            attributions = loaded(path)
            for attribution in attributions[:3]:
                use(attribution, folder / "again")
            if attributions:
                use_together(attributions)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        count += bool(attributions)
    return count


def test_files_that_are_whole_load(tmp_path):
    for draft in drafts():
        (tmp_path / "whole").write_bytes(draft.bytes())
        attributions = loaded(tmp_path / "whole")
        assert attributions
        for attribution in attributions:
            use(attribution, tmp_path / "again")
        use_together(attributions)


def test_hostile_files_are_refused_or_harmless(tmp_path):
    assert FEW / 10 < attack(range(FEW), tmp_path) < FEW / 2


@pytest.mark.attack
@pytest.mark.parametrize("start", range(FEW, FEW + MANY, 1000))
def test_ten_thousand_hostile_files_are_refused_or_harmless(tmp_path, start):
    assert attack(range(start, start + 1000), tmp_path) > 100
