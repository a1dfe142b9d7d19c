#pragma once

#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "krul/backend/conformance.hpp"
#include "krul/backend/forward.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/model/sampling.hpp"

namespace krul::cuda::test {

using CpuModel = CpuBackend<AnyKernels>;

/// The processor's model, in f32.
[[nodiscard]] inline CpuModel on_processor(GgufFile file, ElementType cache_type) {
  return or_throw(CpuModel::load(std::move(file), or_throw(AnyKernels::choose(KernelChoice::eigen, Precision::f32)),
                                 {.threads = 1, .cache_type = cache_type, .tokenizer = "any"}));
}

[[nodiscard]] inline std::vector<Token> random_tokens(std::size_t count, std::size_t vocabulary) {
  std::mt19937_64 random(17);
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = static_cast<Token>(random() % vocabulary);
  return tokens;
}

/// Logits of all rows, prefilled at once but for the last two.
template <ModelBackend B>
[[nodiscard]] std::vector<float> logits_of(B& model, std::span<const Token> tokens) {
  const std::size_t vocabulary = model.geometry().vocabulary;
  auto cache = model.make_cache(tokens.size());
  auto batch = model.make_batch();
  std::vector<float> logits(tokens.size() * vocabulary);
  const std::size_t at_once = tokens.size() - 2;
  forward(model, cache, batch, tokens.first(at_once), std::span(logits).first(at_once * vocabulary));
  for (std::size_t i = at_once; i < tokens.size(); ++i)
    forward(model, cache, batch, tokens.subspan(i, 1), std::span(logits).subspan(i * vocabulary, vocabulary));
  return logits;
}

/// The largest relative difference of a device's logits to the processor's, over what backends may differ by.
template <ModelBackend B>
[[nodiscard]] double disagreement(B& model, CpuModel& processor, ElementType arithmetic) {
  const Geometry& geometry = model.geometry();
  const auto tokens = random_tokens(50, geometry.vocabulary);
  return conformance::relative_difference(logits_of(model, tokens), logits_of(processor, tokens), geometry.vocabulary) /
         default_tolerance(geometry, arithmetic);
}

/// What a model says after a prompt, always the most likely token.
template <ModelBackend B>
[[nodiscard]] std::vector<Token> greedy_text(B& model, std::span<const Token> prompt, std::size_t count) {
  auto cache = model.make_cache(prompt.size() + count);
  auto batch = model.make_batch();
  std::vector<float> logits(model.geometry().vocabulary);
  forward(model, cache, batch, prompt, logits);
  std::vector<Token> said;
  while (said.size() < count) {
    said.push_back(greedy(logits));
    forward(model, cache, batch, std::span(said).last(1), logits);
  }
  return said;
}

}  // namespace krul::cuda::test
