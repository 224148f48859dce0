"""Tokenizer of an exported TransXSSM model, over the sentencepiece package: the ids of `transxssm tokenizer encode`.

No conversion to tokenizer.json gives them all: text such as `<s>` or `<0x41>` stays text, NUL and U+2581 are bytes.
"""

import os
import shutil

import sentencepiece
from transformers.tokenization_utils import PreTrainedTokenizer

SPACE = "\u2581"  # a space in pieces
# Of the SentencePiece model format: normalizer_spec.add_dummy_prefix = false. A message that occurs again is merged.
NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
MAX_INEXACT_BYTES = 256 << 10  # a longer text is cut at spaces


class TransXSSMTokenizer(PreTrainedTokenizer):
    """`exact`: decoding gives back any text. Other models are used as the library does. `dummy_prefix`: a space is put
    before the text. Text never becomes a special token: those come from `add_bos_token`, `add_eos_token` and ids."""

    vocab_files_names = {"vocab_file": "tokenizer.model"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self, vocab_file, exact=True, dummy_prefix=False, add_bos_token=True, add_eos_token=False, **kwargs
    ):
        self.vocab_file = vocab_file
        self.exact, self.dummy_prefix = exact, dummy_prefix
        self.add_bos_token, self.add_eos_token = add_bos_token, add_eos_token
        with open(vocab_file, "rb") as file:
            model = file.read()
        self.pieces = sentencepiece.SentencePieceProcessor()
        # The exact path puts the prefix itself, once, not before every part.
        self.pieces.LoadFromSerializedProto(model + NO_DUMMY_PREFIX if exact else model)
        kwargs["split_special_tokens"] = True
        super().__init__(
            exact=exact,
            dummy_prefix=dummy_prefix,
            add_bos_token=add_bos_token,
            add_eos_token=add_eos_token,
            **kwargs,
        )

    def __getstate__(self):
        state = self.__dict__.copy()
        state["pieces"] = self.pieces.serialized_model_proto()
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.pieces = sentencepiece.SentencePieceProcessor()
        self.pieces.LoadFromSerializedProto(state["pieces"])

    @property
    def vocab_size(self):
        return self.pieces.get_piece_size()

    def get_vocab(self):
        return {self.pieces.id_to_piece(i): i for i in range(self.vocab_size)} | self.added_tokens_encoder

    def _ids(self, text):
        if not self.exact:
            return self._library_ids(text)
        ids, begin = [], 0
        text = " " + text if self.dummy_prefix and text else text
        for i, character in enumerate(text):
            if character in ("\0", SPACE):  # the library would end its string, or take it for a space
                ids += self.pieces.encode(text[begin:i])
                ids += [self.pieces.piece_to_id(f"<0x{byte:02X}>") for byte in character.encode()]
                begin = i + 1
        return ids + self.pieces.encode(text[begin:])

    def _library_ids(self, text):
        ids, rest = [], text.encode()
        while rest:
            length = len(rest)
            if length > MAX_INEXACT_BYTES:
                space = rest[:MAX_INEXACT_BYTES].rfind(b" ")
                length = space if space > 0 else MAX_INEXACT_BYTES
                while rest[length] & 0xC0 == 0x80:
                    length -= 1
            ids += self.pieces.encode(rest[:length].decode())
            rest = rest[length:]
        return ids

    def tokenize(self, text, **kwargs):
        return [self.pieces.id_to_piece(i) for i in self._ids(text)]

    def _convert_token_to_id(self, token):
        return self.pieces.piece_to_id(token)

    def _convert_id_to_token(self, index):
        # Ids past the pieces are padding of the embedding and stand for nothing.
        return self.pieces.id_to_piece(index) if index < self.vocab_size else ""

    def convert_tokens_to_string(self, tokens):
        """The text of pieces; control tokens stand for themselves."""
        out = bytearray()
        at_start = self.dummy_prefix or not self.exact
        for token in filter(None, tokens):
            index = self.pieces.piece_to_id(token)
            if self.pieces.is_byte(index):
                piece = bytes([int(token[3:5], 16)])
            elif self.pieces.is_unknown(index):
                piece = " \u2047 ".encode()
            else:
                piece = token.replace(SPACE, " ").encode()
                if at_start and token.startswith(SPACE):
                    piece = piece[1:]
            out += piece
            at_start = at_start and not piece
        return out.decode(errors="replace")

    def _decode(self, token_ids, skip_special_tokens=False, **kwargs):
        ids = [token_ids] if isinstance(token_ids, int) else [int(i) for i in token_ids]
        kept = [i for i in ids if not (skip_special_tokens and i in self.all_special_ids)]
        return self.convert_tokens_to_string([self._convert_id_to_token(i) for i in kept])

    def build_inputs_with_special_tokens(self, token_ids_0, token_ids_1=None):
        before = [self.bos_token_id] if self.add_bos_token and self.bos_token_id is not None else []
        after = [self.eos_token_id] if self.add_eos_token and self.eos_token_id is not None else []
        first = before + token_ids_0 + after
        return first if token_ids_1 is None else first + before + token_ids_1 + after

    def get_special_tokens_mask(self, token_ids_0, token_ids_1=None, already_has_special_tokens=False):
        if already_has_special_tokens:
            return [int(i in self.all_special_ids) for i in token_ids_0]
        marked = self.build_inputs_with_special_tokens([-1] * len(token_ids_0))
        mask = [int(i != -1) for i in marked]
        return mask if token_ids_1 is None else mask + self.get_special_tokens_mask(token_ids_1)

    def create_token_type_ids_from_sequences(self, token_ids_0, token_ids_1=None):
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def save_vocabulary(self, save_directory, filename_prefix=None):
        name = (filename_prefix + "-" if filename_prefix else "") + "tokenizer.model"
        target = os.path.join(save_directory, name)
        if os.path.abspath(target) != os.path.abspath(self.vocab_file):
            shutil.copyfile(self.vocab_file, target)
        return (target,)


__all__ = ["TransXSSMTokenizer"]
