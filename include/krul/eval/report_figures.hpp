#pragma once

#include "krul/conversation/save.hpp"
#include "krul/core/escaped.hpp"
#include "krul/core/identity.hpp"
#include "krul/restore/restore_report.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul::eval {

// What reports hold, by the names that krul's JSON gives it: for_each_figure(report, use) calls use(name, value) in the
// order of the names. Values are numbers, flags, texts and lists of them; where a name ends in a unit, that is its
// unit.

template <class Use>
void for_each_figure(const RestoreReport& report, Use&& use) {
  use("asked_tokens", report.asked);
  use("matched_tokens", report.matched);
  use("recomputed_tokens", report.recomputed_tokens());
  use("loaded_rows", report.loaded_rows);
  use("recomputed_rows", report.recomputed_rows);
  use("repaired_rows", report.repaired_rows);
  use("recomputed_all", report.recomputed_all);
  use("reasons", report.reasons);
  use("notes", report.notes);
  use("bytes", report.bytes);
  use("ttft_ms", report.total_s() * 1e3);
  use("link_ms", report.busy[Resource::link] * 1e3);
  use("cores_ms", report.busy[Resource::cores] * 1e3);
  if (report.busy[Resource::device] > 0) {
    use("copy_ms", report.busy[Resource::copy] * 1e3);
    use("device_ms", report.busy[Resource::device] * 1e3);
  }
  use("bound_ms", report.bound_s() * 1e3);
  use("bubble_ms", report.bubble_s() * 1e3);
  use("predicted_ms", report.predicted.total_s() * 1e3);
}

template <class Use>
void for_each_figure(const SaveReport& report, Use&& use) {
  use("generation", report.generation);
  use("rows", report.rows);
  use("new_rows", report.new_rows);
  use("bytes", report.bytes);
}

template <class Use>
void for_each_figure(const Identity& identity, Use&& use) {
  use("architecture", identity.architecture);
  use("weights", identity.weights);
  use("tokenizer", identity.tokenizer);
  use("geometry", identity.geometry);
  use("profile", identity.profile);
  use("kernels", identity.kernels);
  use("processor", identity.processor);
  use("threads", identity.threads);
}

/// Bytes of all chunks that a manifest names; one that several layers share counts once.
[[nodiscard]] inline std::uint64_t chunk_bytes(const Manifest& manifest) {
  const SharedChunks shared(manifest, manifest.blocks());
  std::uint64_t bytes = 0;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer)
    for (std::size_t block = 0; block < manifest.blocks(); ++block)
      if (shared.shallower(layer, block) < 0) bytes += manifest.chunk(layer, block).bytes;
  return bytes;
}

/// Of what is saved, without its identity and its chunks.
template <class Use>
void for_each_figure(const Manifest& manifest, Use&& use) {
  use("id", manifest.conversation);
  use("escaped_id", escaped_id(manifest.conversation));
  use("tokens", manifest.tokens.size());
  use("rows", manifest.rows);
  use("bytes", chunk_bytes(manifest));
  use("generation", manifest.generation);
  use("saved_unix_s", manifest.saved_unix_s);
  use("layers", manifest.layers);
  use("block", manifest.block);
}

}  // namespace krul::eval
