#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/backend/attention_observer.hpp"
#include "krul/backend/kv_cache.hpp"
#include "krul/backend/layer_batch.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/identity.hpp"

namespace krul {

/// Which K and V rows of a batch `project` writes to the cache.
enum class KvWrite : std::uint8_t {
  none,     ///< only queries are needed
  missing,  ///< rows that are not present yet; present ones keep every bit
  all,      ///< every row of the batch
};

/// A forward pass that krul can run layer by layer over chosen rows.
///
/// For a batch of R rows at given positions, with hidden states [R, hidden]:
///   embed(tokens, batch)            tokens [R] -> hidden states of the batch's rows
///   project(l, batch, cache, write) norm, Q, K, V and rotary of layer l; Q stays in the batch, K and V go to the cache
///   attend(l, batch, cache, o)      attention of the rows over the cached keys that causality lets them see
///   finish(l, batch)                output projection, residual, MLP: hidden states for layer l + 1
///   logits(batch, rows, out)        rows of the last hidden state -> [rows, vocabulary]
/// What embed makes of a row depends on its token and its position alone, bit for bit: not on the other rows of the
/// batch, nor on what was run before. A profile predicts rows from it, at a save and again at a restore, which cut the
/// conversation otherwise (TokenFeatures). Positions may be learned, as GPT-2's are, or left to the rotary embedding.
/// `batch.keep` may drop rows between any two steps. Rows are independent but for the cache: a row's values do not
/// depend on which other rows are in its batch, beyond the rounding that default_tolerance in backend/conformance.hpp
/// states.
///
/// What is not finite stays so: where activations are not, the logits of all rows that see them are not either, or a
/// step throws NotFiniteError. Arithmetic that has no word for it, such as int8, has to look.
///
/// Two passes with different batches and caches may run at once in different threads.
/// Not checkable here, checked by tests/conformance: project writes only its rows and, with KvWrite::missing, leaves
/// present rows untouched; attend throws PreconditionError if a key that a row may see is not present; a pass in pieces
/// equals a pass at once.
template <class B>
concept ModelBackend = KvCache<typename B::Cache> && LayerBatch<typename B::Batch> &&
    requires(B& model, const B& read, typename B::Cache& cache, typename B::Batch& batch, std::size_t number,
             std::span<const Token> tokens, RowRange rows, std::span<float> out, NullObserver observer) {
  { read.geometry() } -> std::same_as<const Geometry&>;             ///< a reference, not a copy: krul keeps it
  { read.identity() } -> std::same_as<const Identity&>;             ///< a reference, too
  { model.make_cache(number) } -> std::same_as<typename B::Cache>;  ///< capacity in tokens
  { model.make_batch() } -> std::same_as<typename B::Batch>;
  { model.embed(tokens, batch) } -> std::same_as<void>;
  { model.project(number, batch, cache, KvWrite::all) } -> std::same_as<void>;
  { model.attend(number, batch, cache, observer) } -> std::same_as<void>;
  { model.finish(number, batch) } -> std::same_as<void>;
  { model.logits(batch, rows, out) } -> std::same_as<void>;
};

}  // namespace krul
