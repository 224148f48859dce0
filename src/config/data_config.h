// Training and validation data (keys under `data:`).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/fields.h"

namespace transxssm {

enum class Packing { isolated, concatenated };

constexpr auto enum_names(Packing) {
  return std::to_array<EnumName<Packing>>(
      {{Packing::isolated, "isolated"}, {Packing::concatenated, "concatenated"}});
}

struct TrainSource {
  std::string path;
  std::optional<double> weight;
  bool operator==(const TrainSource&) const = default;
};

template <SelfOf<TrainSource> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "path",
              .doc = "Tokens in Megatron's format: prefix of a .bin/.idx pair, folder of shards or glob.",
              .path = true,
              .required = true},
        self.path);
  visit(
      Field{
          .name = "weight",
          .doc =
              "Share of the sequences, relative to the other sources; for all sources or for none (by size).",
          .bounds = above(0)},
      self.weight);
}

struct ValidationSource {
  std::string name;
  std::string path;
  bool operator==(const ValidationSource&) const = default;
};

template <SelfOf<ValidationSource> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "name", .doc = "Name of the set in logs: letters, digits, _ and -.", .required = true},
        self.name);
  visit(Field{.name = "path", .doc = "As for data.train.", .path = true, .required = true}, self.path);
}

struct TaskSource {
  std::string name;
  std::string path;
  bool operator==(const TaskSource&) const = default;
};

template <SelfOf<TaskSource> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "name", .doc = "Name of the set in logs: letters, digits, _ and -.", .required = true},
        self.name);
  visit(Field{.name = "path",
              .doc = "JSON lines {context, continuations, label}, as for `eval --requests` (docs/eval.md).",
              .path = true,
              .required = true},
        self.path);
}

struct DataConfig {
  std::string tokenizer;
  std::vector<TrainSource> train;
  std::vector<ValidationSource> validation;
  std::vector<TaskSource> tasks;
  std::vector<double> split;
  Packing packing = Packing::isolated;
  int64_t eod_id = -1;
  uint64_t seed = 1;
  bool operator==(const DataConfig&) const = default;
};

template <SelfOf<DataConfig> Self, class Visitor>
void visit_fields(Self& self, Visitor&& visit) {
  visit(Field{.name = "tokenizer",
              .doc = "SentencePiece model. Without one `eod_id` is needed and bits_per_byte is null.",
              .path = true},
        self.tokenizer);
  visit(Field{.name = "train", .doc = "Training sources, mixed by weight.", .required = true}, self.train);
  visit(Field{.name = "validation", .doc = "Named validation sets; may be empty."}, self.validation);
  visit(Field{.name = "tasks", .doc = "Named sets of questions, answered at every validation; may be empty."},
        self.tasks);
  visit(
      Field{.name = "split",
            .doc = "Instead of `validation`: the shares of the training data that train and validate, sum 1.",
            .bounds = inside_unit(),
            .size = 2,
            .effect = Effect::mathematics},
      self.split);
  visit(Field{.name = "packing",
              .doc = "isolated: no token sees another document of its window; concatenated: a window is one "
                     "document.",
              .effect = Effect::mathematics},
        self.packing);
  visit(
      Field{
          .name = "eod_id",
          .doc =
              "End-of-document token of data tokenized elsewhere; -1 with a tokenizer, which knows its own.",
          .bounds = at_least(-1),
          .effect = Effect::mathematics},
      self.eod_id);
  visit(Field{.name = "seed",
              .doc = "Data order: a function of this and the step, not of where the data lies; every epoch "
                     "has its own permutation.",
              .effect = Effect::mathematics},
        self.seed);
}

}  // namespace transxssm
