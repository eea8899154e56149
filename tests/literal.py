"""Algorithm 1 of the paper, literally: every map M, M*, I, M_replace and V_replace is built.

It shares no code with the core. It replaces the forward of every cross-attention module it is given and is far too
slow and large for anything but tests.
"""

from __future__ import annotations

import math

import torch


def split(x, heads):
    """[B, L, h*d] -> [B, h, L, d]"""
    b, length, width = x.shape
    return x.view(b, length, heads, width // heads).permute(0, 2, 1, 3)


class LiteralGIE:
    """Runs a UNet step with growth inhibitors.

    ``concepts``: (states [77, D], number of own tokens n, scales [images, n]); ``rows``: image of each row or None.
    """

    def __init__(self, modules, concepts, rows):
        self.modules = modules
        self.concepts = concepts
        self.rows = rows
        self.mode = "stock"
        self.concept_queries = {}
        self.means = []

    def __enter__(self):
        for module in self.modules:
            module.forward = self.make_forward(module)
        return self

    def __exit__(self, *_):
        for module in self.modules:
            del module.forward

    def make_forward(self, module):
        def forward(x, context=None, encoder_hidden_states=None, *args, **kwargs):
            context = encoder_hidden_states if context is None else context
            query = split(module.to_q(x), module.heads)
            key, value = split(module.to_k(context), module.heads), split(module.to_v(context), module.heads)
            scale = 1 / math.sqrt(query.shape[-1])
            maps = (query @ key.transpose(-1, -2) * scale).softmax(-1)  # M
            if self.mode == "record":
                self.concept_queries[module] = query
            if self.mode in ("stock", "record"):
                return self.project(module, maps @ value)
            outputs = [self.row(module, r, query, maps[r], value[r], scale) for r in range(x.shape[0])]
            return self.project(module, torch.stack(outputs))

        return forward

    def row(self, module, r, query, maps, value, scale):
        """One row's attention output [h, N, d]."""
        image = self.rows[r]
        if image is None:
            return maps @ value
        for number, (states, count, scales) in enumerate(self.concepts):
            states = states.to(value.dtype)[None]
            key_star = split(module.to_k(states), module.heads)[0]  # [h, 77, d]
            value_star = split(module.to_v(states), module.heads)[0]
            own_query = query[r] if self.mode == "fused" else self.queries_of_pass[number][module][r]
            maps_star = (own_query @ key_star.transpose(-1, -2) * scale).softmax(-1)  # M*  [h, N, 77]
            self.means.append((image, number, maps_star[..., 1 : 1 + count].mean(1)))
            inhibitor = maps_star[..., 1 : 1 + count] * scales[image]  # I
            maps = torch.cat([maps[..., :1], inhibitor, maps[..., 1:]], -1)  # M_replace
            value = torch.cat([value[:, :1], value_star[:, 1 : 1 + count], value[:, 1:]], -2)  # V_replace
        return maps @ value

    @staticmethod
    def project(module, heads):
        joined = heads.permute(0, 2, 1, 3).flatten(2)
        for part in module.to_out:
            joined = part(joined)
        return joined

    def step(self, unet, latents, timesteps, context, concept_pass="fused"):
        if concept_pass == "separate":
            self.queries_of_pass = []
            for states, _, _ in self.concepts:
                self.mode, self.concept_queries = "record", {}
                unet(latents, timesteps, states.to(context.dtype)[None].repeat(len(latents), 1, 1))
                self.queries_of_pass.append(self.concept_queries)
        self.mode = concept_pass
        return unet(latents, timesteps, context)


class LiteralValueProjection(LiteralGIE):
    """The same for value projection (AdaVD): every token's value loses its components, one by one.

    ``concepts``: (states [77, D], number of own tokens, scales [images]).
    """

    def row(self, module, r, query, maps, value, scale):
        """One row's attention output [h, N, d]."""
        image = self.rows[r]
        if image is None:
            return maps @ value
        starred = [module.to_v(states.to(value.dtype))[count] for states, count, _ in self.concepts]  # [h*d] each
        changed = value.permute(1, 0, 2).flatten(1).clone()  # [L, h*d]
        for position, own in enumerate(list(changed)):
            if position % 77:
                for target, share, (_, _, scales) in zip(starred, shares_of(own, starred), self.concepts, strict=True):
                    cosine = torch.nn.functional.cosine_similarity(own, target, dim=0)
                    factor = 2.0 / (1.0 + torch.exp(-100.0 * (cosine - 0.93)))
                    changed[position] += scales[image] * factor * share * target
        return maps @ changed.view(len(changed), module.heads, -1).permute(1, 0, 2)


def shares_of(own, vectors):
    """How much of each vector the projection of ``own`` on the space of all has, by Gram and Schmidt."""
    basis, made_of = [], []  # orthogonal vectors, and what each is made of
    for number, vector in enumerate(vectors):
        rest, parts = vector.clone(), torch.zeros(len(vectors))
        parts[number] = 1
        for other, its in zip(basis, made_of, strict=True):
            share = (vector @ other) / (other @ other)
            rest, parts = rest - share * other, parts - share * its
        basis.append(rest)
        made_of.append(parts)
    return sum((own @ other) / (other @ other) * its for other, its in zip(basis, made_of, strict=True))
