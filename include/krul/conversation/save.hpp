#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/model_backend.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/core/clock.hpp"
#include "krul/core/version.hpp"
#include "krul/core/workers.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/segment.hpp"

namespace krul {

/// What one save wrote.
struct SaveReport {
  std::uint64_t generation = 0;
  std::size_t rows = 0;      ///< tokens whose K and V are saved now
  std::size_t new_rows = 0;  ///< of those, coded by this save
  std::uint64_t bytes = 0;   ///< written: the new object and both copies of the manifest
  double seconds = 0;
};

/// Everything one save works on. The caller keeps it alive, and holds the folder's lock.
template <KvCache Cache, ConversationStore S, Clock C = SteadyClock>
struct SaveJob {
  S& store;
  std::string folder;
  const Cache& cache;
  const Geometry& geometry;
  Workers& workers;
  AnyRowCodec codec;
  SavePlanRecord plan;
  C clock = {};
};

namespace detail {

/// Codes the cache's rows from a block on.
template <KvCache Cache, ConversationStore S, Clock C>
SegmentWriter encode_blocks(const SaveJob<Cache, S, C>& job, const Manifest& manifest, std::size_t first_block,
                            std::uint8_t plan) {
  const std::size_t rows = job.cache.length(), block = manifest.block, row_bytes = job.geometry.kv_row_bytes();
  SegmentWriter segment({manifest.layers, first_block, (rows + block - 1) / block - first_block});
  const std::size_t blocks = segment.shape().blocks;
  const LayerPairCompressor<Separate, AnyRowCodec> compressor({}, job.codec);
  std::vector<std::vector<std::byte>> coded(blocks);
  for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
    job.workers.parallel_for(blocks, [&](std::size_t i, std::size_t) {
      const TokenRange tokens{(first_block + i) * block, std::min((first_block + i + 1) * block, rows)};
      std::vector<std::byte> keys(tokens.size() * row_bytes), values(keys.size());
      job.cache.wait(job.cache.read_kv(layer, tokens, {keys, values}));
      coded[i] = compressor.encode(job.geometry, KvRows{keys, values});
    });
    for (const auto& chunk : coded) segment.add(chunk, std::to_integer<std::uint8_t>(job.codec.id()), plan);
  }
  return segment;
}

}  // namespace detail

/// Appends to a saved conversation what its cache holds beyond it: one new object, then the manifest.
///
/// Closed blocks that did not change are not written again; the open tail block is, until it is full.
/// @param manifest   as saved before, or new with generation 0; what was saved now, if the call succeeds
/// @param tokens     all tokens of the conversation; the cache holds rows for the first of them
/// @param unchanged  leading rows of the cache that are those of the manifest
/// @return           why nothing was saved; the saved state is the old one then, and `manifest` is unchanged
/// @throws           PreconditionError if the cache is empty or longer than the tokens
template <KvCache Cache, ConversationStore S, Clock C>
[[nodiscard]] Result<SaveReport> save_conversation(const SaveJob<Cache, S, C>& job, Manifest& manifest,
                                                   std::span<const Token> tokens, std::size_t unchanged) {
  const TimePoint start = job.clock.now();
  const std::size_t rows = job.cache.length();
  expects(rows > 0 && rows <= tokens.size(), "save_conversation: the cache is empty or longer than the tokens");
  SaveReport report{.generation = manifest.generation, .rows = rows};
  unchanged = std::min(unchanged, manifest.rows);
  const bool same_rows = unchanged == rows && manifest.rows == rows;
  if (same_rows && std::ranges::equal(tokens, manifest.tokens)) return report;

  Manifest next = manifest;
  next.generation = manifest.generation + 1;
  next.tokens.assign(tokens.begin(), tokens.end());
  next.saved_unix_s = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  if (!same_rows) {
    auto plan = std::find(next.plans.begin(), next.plans.end(), job.plan);
    if (plan == next.plans.end()) plan = next.plans.insert(plan, job.plan);
    const std::size_t first_block = std::min(unchanged, rows) / next.block;
    const auto segment =
        detail::encode_blocks(job, next, first_block, static_cast<std::uint8_t>(plan - next.plans.begin()));
    const std::string object = segment.name(next.generation);
    if (const auto put = job.store.put(job.folder + "/" + object, segment.bytes()); !put) return propagate(put);
    enter_segment(next, segment, object, rows);
    report.new_rows = rows - first_block * next.block;
    report.bytes = segment.bytes().size();
  }
  const auto published = publish_manifest(job.store, job.folder, next);
  if (!published) {
    // The first copy may be out: what is in force is what can be loaded.
    const auto in_force = load_manifest(job.store, job.folder, ManifestCopies::first_valid);
    if (in_force) manifest = in_force->manifest;
    return propagate(published);
  }
  manifest = std::move(next);
  report.generation = manifest.generation;
  report.bytes += *published;
  // All is saved: what cannot be erased now is erased after a later save.
  static_cast<void>(collect_garbage(job.store, job.folder, manifest));
  report.seconds = seconds(job.clock.now() - start);
  return report;
}

/// What a conversation is saved as.
struct SaveAs {
  std::string id;
  AnyRowCodec codec{Int8Codec{}};
  std::string strategy = "krul";  ///< recorded with what is saved
  std::uint32_t block = 64;       ///< tokens of a stored block
  std::size_t threads = 1;
};

/// Saves a whole cache as a conversation of its own, in place of what was saved under that id.
/// @return busy if another process has the conversation; otherwise as save_conversation
/// @throws PreconditionError as save_conversation
template <ModelBackend B, ConversationStore S>
[[nodiscard]] Result<SaveReport> save_as(B& model, S& store, const typename B::Cache& cache,
                                         std::span<const Token> tokens, const SaveAs& as) {
  const auto folder = conversation_folder(as.id);
  if (!folder) return propagate(folder);
  const auto lock = store.lock(*folder);
  if (!lock) return propagate(lock);
  const auto before = load_manifest(store, *folder);
  Manifest manifest{.conversation = as.id,
                    .generation = before ? before->manifest.generation : 0,
                    .identity = model.identity(),
                    .tokens = {},
                    .layers = model.geometry().layers,
                    .block = as.block,
                    .objects = {},
                    .plans = {},
                    .chunks = {},
                    .writer = krul_version};
  Workers workers(as.threads);
  const SaveJob<typename B::Cache, S> job{
      store, *folder, cache, model.geometry(), workers, as.codec, {as.strategy, std::string(as.codec.name()), {}}};
  return save_conversation(job, manifest, tokens, 0);
}

}  // namespace krul
