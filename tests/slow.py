"""Cases that say again, of one more kind, what another case has said: `make test-all` runs them."""

from fnmatch import fnmatch

import pytest


def slow(*values: object) -> object:
    """The values of a case that the gate leaves out, to stay under a quarter of an hour."""
    return pytest.param(*values, marks=pytest.mark.slow)


AGAIN = (
    "after_cut/test_compose.py::test_either_order*[[]healed-cut first[]]",
    "after_cut/test_compose.py::test_either_order*[[]not healed-cut first[]]",
    "after_cut/test_compose.py::test_either_order*[[]not healed-quantized first[]]",
    "after_cut/test_compressor.py::test_what_goes_wrong*",
    "after_cut/test_predictions.py::test_only_the_cut_model*",
    "after_cut/test_quantize.py::test_what_is_saved*[[]int8-dynamic[]]",
    "after_cut/test_repair.py::test_a_healing_begins*[[]scalar-full[]]",
    "after_cut/test_repair.py::test_too_little_text*",
    "cli/test_boundaries.py::*[[]SQLite, later[]]",
    "cli/test_boundaries.py::*[[]a full disk, told by a library[]]",
    "cli/test_boundaries.py::*[[]the disk, writing[]]",
    "cli/test_players.py::test_a_locked_layer*",
    "cli/test_prune.py::test_python_does_the_same*",
    "cli/test_search.py::test_estimators*[[]banzhaf[]]",
    "cli/test_search.py::test_estimators*[[]kernel[]]",
    "cli/test_search.py::test_estimators*[[]window[]]",
    "game/test_semivalues.py::*[[]Banzhaf by strata[]]",
    "game/test_study.py::test_a_generous_time_limit*",
    "models/test_families.py::test_a_family_can_be_cut[[]falcon_h1[]]",
    "models/test_families.py::test_a_family_can_be_cut[[]llama4[]]",
    "models/test_families.py::test_a_family_can_be_cut[[]qwen3_next[]]",
    "repair/test_laws.py::test_the_same_maps*[[]dtype1-mamba[]]",
    "rivals/test_dtypes.py::*[[]clp-torch.float16[]]",
    "test_gpu_benchmark.py::*",
    "test_real_benchmark.py::*",
    "verbs/test_blocks_after_layers.py::test_where_whole_layers_win*",
    "verbs/test_compare.py::test_stopped_and_run_again*",
    "verbs/test_finished.py::*[[]by_heal-cpu:0[]]",
    "verbs/test_place.py::test_a_folder_filled_meanwhile*[[]composed[]]",
    "verbs/test_place.py::test_a_folder_filled_meanwhile*[[]quantize[]]",
    "verbs/test_place.py::test_a_folder_filled_meanwhile*[[]repair[]]",
    "verbs/test_place.py::test_a_folder_filled_meanwhile*[[]sparsify[]]",
    "verbs/test_sparsify.py::test_a_budget_is_kept",
    "verbs/test_sparsify.py::test_experts_nobody*[[]sparsegpt[]]",
    "verbs/test_sparsify.py::test_pruners_measure_on_more*",
    "verbs/test_sparsify.py::test_statistics_are_kept*[[]sv-nup[]]",
    "verbs/test_sparsify.py::test_the_checkpoint_is_as_sparse*[[]ecoflap[]]",
    "verbs/test_sparsify.py::test_the_checkpoint_is_as_sparse*[[]owl[]]",
    "verbs/test_sparsify.py::test_the_checkpoint_is_as_sparse*[[]sv-nup-window[]]",
    "verbs/test_sparsify.py::test_the_checkpoint_is_as_sparse*[[]sv-nup[]]",
    "verbs/test_sparsify.py::test_two_copies*[[]mixed-4[]]",
    "verbs/test_sparsify.py::test_two_copies*[[]sv-nup-3[]]",
    "verbs/test_sparsify.py::test_what_state_memory_allows*",
    "verbs/test_sparsify_stream.py::test_a_dry_run_states*[[]False[]]",
    "verbs/test_sparsify_stream.py::test_statistics_gathered*",
    "verbs/test_sparsify_stream.py::test_streamed_and_in_memory*[[]magnitude*",
    "verbs/test_sparsify_stream.py::test_streamed_and_in_memory*[[]wanda*",
    "verbs/test_sparsify_stream.py::test_temporary_files*[[]guided-magnitude[]]",
    "verbs/test_sparsify_stream.py::test_temporary_files*[[]sv-nup-wanda[]]",
    "verbs/test_sparsify_stream.py::test_what_a_rule_asks*[[]mixed[]]",
    "verbs/test_sparsify_stream.py::test_what_a_rule_asks*[[]owl[]]",
    "verbs/test_stream.py::test_other_methods*[[]guided[]]",
    "verbs/test_told.py::*cut[[]guided[]]",
    "verbs/test_told.py::*values[[]paper[]]",
)
"""Tests of the same kind, by pattern: each takes long and has a quicker sister in the gate."""


def is_slow(nodeid: str) -> bool:
    """Whether a test is left out of the gate by its name."""
    return any(fnmatch(nodeid, f"*tests/{pattern}") for pattern in AGAIN)
