"""The head of a model card: YAML metadata that the Hub reads."""

from collections.abc import Mapping, Sequence

from coterie.report.schema.basics import ModelPart


def metadata(model: ModelPart, licence: Mapping[str, str], tags: Sequence[str]) -> str:
    """Lines between the two ``---`` of a card.

    Args:
        model: The model the checkpoint was made of.
        licence: Lines of that model's card that say how it may be used (``license``, …).
        tags: What the checkpoint is, beside one of Coterie's.
    """
    lines = {"library_name": "transformers", "pipeline_tag": "text-generation", **licence}
    # Only what came from the Hub can name it: a local folder's name says nothing there.
    if model.hub_id:
        lines |= {"base_model": model.hub_id, "base_model_relation": "finetune"}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    # Our own tag first: it finds every such checkpoint on the Hub.
    return f"{text}tags:\n" + "".join(f"- {tag}\n" for tag in ("coterie", *tags))
