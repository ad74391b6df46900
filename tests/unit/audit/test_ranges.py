"""Ranges of the tree: subtrees that stand for leaves, and trees that grow from them."""

import pytest

from services.audit.rules.ranges import GrowingTree, subtrees
from services.audit.rules.tiles import grown, hash_of
from shared.merkle.tree import EMPTY_ROOT, Span
from tests.unit.audit.trees import leaves, root

MOST = 40
LEAVES = leaves(MOST)
TILES = grown({}, 0, LEAVES)


def test_the_subtrees_of_a_span_are_whole_and_follow_one_another() -> None:
    for first in range(70):
        for end in range(first, 70):
            at = first
            for node in subtrees(Span(first, end)):
                assert node.place << node.level == at
                at += 1 << node.level
            assert at == end


def test_there_are_at_most_two_subtrees_of_a_level() -> None:
    levels = [node.level for node in subtrees(Span(1, 2**62 - 1))]
    assert len(levels) == 2 * 61
    assert max(map(levels.count, levels)) == 2


def test_every_range_leads_to_every_root() -> None:
    for size in range(MOST + 1):
        for first in range(size + 1):
            for end in range(first, size + 1):
                tree = GrowingTree()
                for node in subtrees(Span(0, first)):
                    tree.add(hash_of(node, TILES), node.level)
                for leaf in LEAVES[first:end]:
                    tree.add(leaf)
                for node in subtrees(Span(end, size)):
                    tree.add(hash_of(node, TILES), node.level)
                assert tree.size == size
                assert tree.root() == root(LEAVES[:size])


def test_the_empty_tree_has_the_root_of_nothing() -> None:
    assert GrowingTree().root() == EMPTY_ROOT


def test_a_subtree_goes_only_where_the_tree_has_a_place_for_it() -> None:
    tree = GrowingTree()
    tree.add(LEAVES[0])
    with pytest.raises(ValueError, match="1"):
        tree.add(LEAVES[1], 1)
