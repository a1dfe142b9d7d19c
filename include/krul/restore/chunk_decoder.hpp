#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/computes_on.hpp"
#include "krul/backend/either_decoder.hpp"
#include "krul/backend/lends_rows.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/decodes_chunks.hpp"
#include "krul/compress/hidden_states.hpp"
#include "krul/compress/profile_belongs.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/core/workers.hpp"
#include "krul/restore/link_lane.hpp"
#include "krul/restore/stored_state.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul {

/// Rows of one layer and block that could not be had from the store.
struct BrokenRows {
  enum class Cause : std::uint8_t {
    unread,       ///< the read failed; its status says why
    damaged,      ///< the bytes are not what was written
    undecodable,  ///< they are, and mean nothing to this build or its profile
  };
  std::size_t layer = 0;
  std::size_t block = 0;
  Cause cause = Cause::damaged;
};

/// Turns what was read into rows of the cache: by a coder, or by the model's projection where chunks hold what it
/// projects.
template <ModelBackend B>
class ChunkDecoder {
 public:
  using Cache = typename B::Cache;

  /// All references must outlive the decoder.
  /// @param decode  device: the backend decodes what it can, if it decodes chunks at all; cores: it is asked for none
  ChunkDecoder(B& model, const Manifest& manifest, const RestorePlan& plan, CodingSet codings, Resource decode)
      : model_(model), geometry_(model.geometry()), manifest_(manifest), plan_(plan), codings_(std::move(codings)) {
    if (codings_.profile() && codings_.profile()->data().features > 0)
      features_ = token_features(model, std::span(manifest.tokens).first(manifest.rows));
    if constexpr (DecodesChunks<B>)
      if (decode == Resource::device) own_.emplace(model.make_decoder(codings_.profile()));
  }

  /// The wanted tokens of a block; rows behind them are decoded and dropped.
  [[nodiscard]] TokenRange tokens_of(std::size_t block) const noexcept {
    return {block * manifest_.block, std::min((block + 1) * manifest_.block, plan_.history)};
  }

  /// Decodes the good chunks of arrivals in parallel and writes them, each into all layers that were coded into it
  /// and load its block; appends what the others would have brought to `broken`, and what is not finite. What one
  /// arrival brought of a layer is projected together, whatever else is there: so its bits do not depend on time.
  /// A backend that decodes chunks itself does so meanwhile.
  /// @param done  done(resource, name) after each step: the cores have decoded, what was decoded is copied to a cache
  ///              that is elsewhere, the model has projected, and decoded what it decodes itself
  /// @post every wanted row of a good chunk is present in its layers; no other row has changed
  template <class Done>
  void decode(std::span<const Arrival> arrivals, Cache& cache, Workers& workers, std::vector<BrokenRows>& broken,
              Done&& done) {
    std::vector<Chunk> chunks = chunks_of(arrivals);
    ask_backend(chunks, cache);
    decode_here(chunks, cache, workers);
    done(Resource::cores, "decode");
    write(chunks, cache, broken);
    done(Resource::copy, "copy");
    project(chunks, cache);
    finish_backend(chunks, cache, broken);
    done(computes_on(model_), "decode");
  }

 private:
  struct Rows {
    std::vector<std::byte> keys, values;
  };
  struct Chunk {
    const Arrival* arrival = nullptr;
    std::size_t block = 0;
    std::span<const std::byte> bytes;
    std::vector<std::size_t> layers;  ///< all that were coded into it
    bool good = false;                ///< the bytes are what was written
    bool is_projected = false;        ///< by the model, not decoded by a coder
    bool is_backends = false;         ///< decoded by the backend itself
    BrokenRows::Cause cause{};        ///< if it cannot be decoded
    bool decoded = false;
    std::vector<Rows> rows = {};  ///< [layers] where the rows could not go straight into the cache
  };

  [[nodiscard]] std::vector<Chunk> chunks_of(std::span<const Arrival> arrivals) const {
    std::vector<Chunk> chunks;
    for (const Arrival& arrival : arrivals) {
      std::size_t offset = 0;
      for (std::size_t i = 0; i < arrival.request.chunks.size(); ++i) {
        const auto [layer, block] = arrival.request.chunks[i];
        const std::size_t length = manifest_.chunk(layer, block).bytes;
        chunks.push_back(
            {.arrival = &arrival,
             .block = block,
             .bytes = arrival.good[i] ? arrival.buffer.bytes().subspan(offset, length) : std::span<const std::byte>{},
             .layers = layers_of_chunk(manifest_, layer, block),
             .good = arrival.good[i],
             .is_projected = manifest_.chunk(layer, block).codec == projected_coding,
             .cause = !arrival.status   ? BrokenRows::Cause::unread
                      : arrival.good[i] ? BrokenRows::Cause::undecodable
                                        : BrokenRows::Cause::damaged});
        offset += length;
      }
    }
    return chunks;
  }

  /// Asks a backend that decodes itself for the chunks that it takes, of which all rows are wanted.
  void ask_backend(std::span<Chunk> chunks, Cache& cache) {
    if constexpr (DecodesChunks<B>) {
      if (!own_) return;
      for (Chunk& chunk : chunks) {
        const TokenRange stored = stored_tokens(chunk.block);
        const std::uint8_t coding = manifest_.chunk(chunk.layers.front(), chunk.block).codec;
        const bool whole =
            stored.end == tokens_of(chunk.block).end &&
            std::ranges::all_of(chunk.layers, [&](std::size_t layer) { return loads(layer, chunk.block); });
        if (!chunk.good || chunk.is_projected || !whole || !own_->takes(coding)) continue;
        chunk.is_backends =
            own_->decode(StoredChunk{.coding = coding,
                                     .layers = chunk.layers,
                                     .tokens = stored,
                                     .bytes = chunk.bytes,
                                     .features = is_joint(coding) ? features_.of(stored) : std::span<const float>{}},
                         cache)
                .has_value();
      }
    }
  }
  void finish_backend(std::span<const Chunk> chunks, const Cache& cache, std::vector<BrokenRows>& broken) {
    if constexpr (DecodesChunks<B>) {
      if (!own_) return;
      own_->finish();
      for (const Chunk& chunk : chunks)
        for (const std::size_t layer : chunk.layers)
          if (chunk.is_backends && !cache.present(layer).contains(tokens_of(chunk.block)))
            broken.push_back({layer, chunk.block, BrokenRows::Cause::undecodable});
    }
  }

  /// A cache in host memory gets its rows here already.
  void decode_here(std::span<Chunk> chunks, Cache& cache, Workers& workers) const {
    workers.parallel_for(chunks.size(), [&](std::size_t i, std::size_t) {
      if (chunks[i].good && !chunks[i].is_backends) chunks[i].decoded = try_to_decode(chunks[i], cache);
    });
  }

  /// Tells of all that could not be decoded.
  void write(std::span<const Chunk> chunks, Cache& cache, std::vector<BrokenRows>& broken) const {
    for (const Chunk& chunk : chunks) {
      for (std::size_t i = 0; i < chunk.layers.size(); ++i) {
        const std::size_t layer = chunk.layers[i];
        if (!loads(layer, chunk.block) || chunk.is_backends) continue;
        if (!chunk.decoded) {
          broken.push_back({layer, chunk.block, chunk.cause});
        } else if (chunk.is_projected) {
          continue;
        } else if (lends_rows(cache)) {
          if constexpr (HostViewableCache<Cache>) cache.mark_present(layer, tokens_of(chunk.block));
        } else {
          const std::size_t length = tokens_of(chunk.block).size() * geometry_.kv_row_bytes();
          cache.wait(cache.write_kv(
              layer, tokens_of(chunk.block),
              {std::span(chunk.rows[i].keys).first(length), std::span(chunk.rows[i].values).first(length)}));
        }
      }
    }
  }

  /// An arrival and a layer at a time.
  void project(std::span<const Chunk> chunks, Cache& cache) const {
    for (std::size_t begin = 0, end = 0; begin < chunks.size(); begin = end) {
      const Chunk& first = chunks[begin];
      std::vector<ProjectedChunk> together;
      for (; end < chunks.size() && chunks[end].arrival == first.arrival && chunks[end].layers == first.layers; ++end)
        if (chunks[end].is_projected && chunks[end].decoded)
          together.push_back({tokens_of(chunks[end].block), chunks[end].bytes});
      if (!together.empty()) project_chunks(model_, cache, first.layers.front(), std::span(std::as_const(together)));
    }
  }

  /// All tokens of a block that are stored.
  [[nodiscard]] TokenRange stored_tokens(std::size_t block) const noexcept {
    return {block * manifest_.block, std::min<std::size_t>((block + 1) * manifest_.block, manifest_.rows)};
  }
  [[nodiscard]] bool loads(std::size_t layer, std::size_t block) const {
    return block * manifest_.block >= plan_.prefix[layer];
  }

  /// What a task throws would end the process: a chunk that cannot be decoded for lack of memory, or for claims that no
  /// coding makes, is recomputed like every other.
  bool try_to_decode(Chunk& chunk, Cache& cache) const noexcept {
    try {
      if (chunk.is_projected) {
        chunk.bytes = projected_values(model_, chunk.bytes, tokens_of(chunk.block));
        return chunk.layers.size() == 1 && !chunk.bytes.empty();
      }
      return decode_chunk(chunk, cache);
    } catch (const std::exception&) {
      return false;
    }
  }

  bool decode_chunk(Chunk& chunk, Cache& cache) const {
    const std::size_t shallowest = chunk.layers.front();
    const auto coding = codings_.find(stored_coding(manifest_, manifest_.chunk(shallowest, chunk.block), shallowest));
    if (!coding || coding->layers() != chunk.layers.size()) return false;
    const std::size_t stored = stored_tokens(chunk.block).size();
    const TokenRange tokens = tokens_of(chunk.block);
    const std::size_t length = stored * geometry_.kv_row_bytes(), wanted = tokens.size() * geometry_.kv_row_bytes();
    const auto in_cache = [&](std::size_t layer) {
      return lends_rows(cache) && stored == tokens.size() && loads(layer, chunk.block);
    };
    chunk.rows.resize(chunk.layers.size());
    std::vector<MutableKvRows> to(chunk.layers.size());
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (in_cache(chunk.layers[i])) {
        to[i] = rows_in_cache(cache, chunk.layers[i], tokens);
      } else {
        chunk.rows[i] = {std::vector<std::byte>(length), std::vector<std::byte>(length)};
        to[i] = {chunk.rows[i].keys, chunk.rows[i].values};
      }
    }
    const BlockContext context{static_cast<Position>(tokens.begin), features_.of(stored_tokens(chunk.block))};
    if (!coding->decode(geometry_, chunk.bytes, to, context)) return false;
    for (const MutableKvRows& rows : to)
      if (!are_finite(geometry_.cache_type, rows)) return false;
    if (lends_rows(cache)) {
      for (std::size_t i = 0; i < to.size(); ++i) {
        if (in_cache(chunk.layers[i]) || !loads(chunk.layers[i], chunk.block)) continue;
        const MutableKvRows live = rows_in_cache(cache, chunk.layers[i], tokens);
        std::copy_n(to[i].keys.begin(), wanted, live.keys.begin());
        std::copy_n(to[i].values.begin(), wanted, live.values.begin());
      }
    }
    return true;
  }

  [[nodiscard]] MutableKvRows rows_in_cache(Cache& cache, std::size_t layer, TokenRange tokens) const {
    if constexpr (HostViewableCache<Cache>) {
      const std::size_t at = tokens.begin * geometry_.kv_row_bytes(), length = tokens.size() * geometry_.kv_row_bytes();
      const MutableKvRows view = cache.view(layer);
      return {view.keys.subspan(at, length), view.values.subspan(at, length)};
    } else {
      return {};
    }
  }

  B& model_;
  const Geometry& geometry_;
  const Manifest& manifest_;
  const RestorePlan& plan_;
  CodingSet codings_;
  TokenFeatures features_;                          ///< of the manifest's rows, if the profile asks for them
  std::optional<typename DecoderOf<B>::Type> own_;  ///< a backend's that decodes itself, unless the cores shall
};

/// Whether a model may take over what a manifest describes, decoded with these codings.
/// @return identity_mismatch, naming what differs
template <ModelBackend B>
[[nodiscard]] Status can_decode(const B& model, const Manifest& manifest, const CodingSet& codings) {
  if (const auto differing = differences(manifest.identity, model.identity()); !differing.empty())
    return fail(ErrorCode::identity_mismatch,
                "the saved state belongs to another model: " + describe(differing) + "; recompute its tokens");
  return codings.profile() ? belongs_to(*codings.profile(), model.identity()) : Status{};
}

}  // namespace krul
