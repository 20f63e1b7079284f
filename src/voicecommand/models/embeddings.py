"""An embedding that trains only the rows of tokens that occur in the training split."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class SeenRowsEmbedding(nn.Embedding):
    """An embedding that trains only the rows of tokens that occur in the training split.

    Commands use a few thousand of a vocabulary of 30,000 to 250,000 tokens. The row of a token that never occurs has a
    gradient of zero, but the dense gradient, the optimizer and the gradient norm still include it in every step.
    Leaving those rows out changes one result only: weight decay no longer shrinks them.

    `state_dict` holds the whole table under `weight`, so checkpoints and saved models are in stock form.

    Args:
        embedding: the stock embedding, `[vocabulary, width]`; its weight is used, not copied.
        token_ids: int64 `[seen]`, sorted and unique.
    """

    table: torch.Tensor  # [vocabulary, width], as pretrained
    token_ids: torch.Tensor
    row_of: torch.Tensor  # [vocabulary], -1 where the token has no row

    def __init__(self, embedding: nn.Embedding, token_ids: torch.Tensor) -> None:
        table = embedding.weight.detach()
        token_ids = token_ids.to(table.device)
        super().__init__(len(token_ids), table.shape[1], _weight=table[token_ids])
        self.num_embeddings = embedding.num_embeddings
        self.padding_token = embedding.padding_idx
        row_of = torch.full((embedding.num_embeddings,), -1, dtype=torch.long, device=table.device)
        row_of[token_ids] = torch.arange(len(token_ids), device=table.device)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("token_ids", token_ids, persistent=False)
        self.register_buffer("row_of", row_of, persistent=False)
        if self.padding_token is not None and row_of[self.padding_token] >= 0:
            self.padding_idx = int(row_of[self.padding_token])

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        rows = self.row_of[input]
        seen = nn.functional.embedding(rows.clamp(min=0), self.weight, self.padding_idx)
        if self.training:  # every token of a training batch has a row
            return seen
        return torch.where((rows < 0).unsqueeze(-1), nn.functional.embedding(input, self.table), seen)

    def whole_table(self) -> torch.Tensor:
        """The whole `[vocabulary, width]` table with the trained rows in their places."""
        table = self.table.clone()
        table[self.token_ids] = self.weight.detach().to(table.dtype)
        return table

    def _save_to_state_dict(self, destination: dict[str, torch.Tensor], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.whole_table()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, torch.Tensor],
        prefix: str,
        metadata: object,
        strict: bool,
        missing_keys: list[str],
        *args: object,
    ) -> None:
        if prefix + "weight" not in state_dict:
            missing_keys.append(prefix + "weight")
            return
        with torch.no_grad():
            self.table.copy_(state_dict[prefix + "weight"])
            self.weight.copy_(self.table[self.token_ids])


def train_seen_rows(model: Any, token_ids: torch.Tensor) -> None:
    """Replace a trainable input embedding of `model` by one that trains only the rows in `token_ids`."""
    embedding = model.get_input_embeddings()
    if type(embedding) is nn.Embedding and embedding.weight.requires_grad:
        seen = SeenRowsEmbedding(embedding, token_ids)
        model.set_input_embeddings(seen)
        # DistributedDataParallel sends buffers to every rank before each forward pass; these never change
        prefix = next(name for name, module in model.named_modules() if module is seen)
        model._ddp_params_and_buffers_to_ignore = [f"{prefix}.{name}" for name, _ in seen.named_buffers()]


def count_unseen(model: nn.Module) -> int:
    """The number of parameters in embedding rows that are not trained, because their tokens do not occur in train."""
    seen = (module for module in model.modules() if isinstance(module, SeenRowsEmbedding))
    return sum(module.table.numel() - module.weight.numel() for module in seen)
