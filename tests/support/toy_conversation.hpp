#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "../examples/02_your_own_backend/toy_backend.hpp"
#include "krul/backend/forward.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/conversation/save.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::test {

/// Tokens that look like nothing in particular; the same for the same seed.
inline std::vector<Token> toy_tokens(std::size_t count, unsigned seed = 1) {
  std::vector<Token> tokens;
  for (unsigned state = seed; tokens.size() < count;) {
    state = state * 1664525U + 1013904223U;
    tokens.push_back(static_cast<Token>(state >> 26));
  }
  return tokens;
}

/// The live cache of a run that was never interrupted, and its last logits.
struct Uninterrupted {
  toy::Backend::Cache cache;
  std::vector<float> logits;
};

inline Uninterrupted run_through(toy::Backend& model, const std::vector<Token>& tokens) {
  Uninterrupted run{model.make_cache(model.geometry().context), std::vector<float>(model.geometry().vocabulary)};
  auto batch = model.make_batch();
  prefill(model, run.cache, batch, tokens, run.logits);
  return run;
}

/// Changes one byte of a stored object in place.
inline void flip_byte(MemoryStore& store, const std::string& key, std::uint64_t offset) {
  std::vector<std::byte> bytes(store.size(key).value());
  REQUIRE(store.get(key, 0, bytes));
  bytes[offset] ^= std::byte{0x10};
  REQUIRE(store.put(key, bytes));
}

}  // namespace krul::test
