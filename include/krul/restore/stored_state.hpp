#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/restore/read_requests.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/object_sizes.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul {

/// Leading tokens of a layer, within the first `history`, that are not stored: whole blocks or all of them.
[[nodiscard]] inline std::size_t unstored_front(const Manifest& manifest, std::size_t layer, std::size_t history) {
  std::size_t tokens = 0;
  for (std::size_t block = 0; tokens < history && !manifest.chunk(layer, block).is_stored(); ++block)
    tokens = std::min<std::size_t>(tokens + manifest.block, history);
  return tokens;
}

/// What the planner has to know of a saved conversation.
/// @param history  N <= manifest.rows: leading tokens that are wanted
/// @param prompt   M >= 1
/// @complexity     O(L * blocks * log L)
[[nodiscard]] inline RestoreSizes restore_sizes(const Manifest& manifest, std::size_t history, std::size_t prompt) {
  RestoreSizes sizes{.history = history, .prompt = prompt, .block = manifest.block, .layers = {}};
  const SharedChunks shared(manifest, sizes.blocks());
  sizes.layers.resize(manifest.layers);
  for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
    StoredLayer& stored = sizes.layers[layer];
    stored.unstored = unstored_front(manifest, layer, history);
    stored.shared_with = shared.row(layer);
    std::size_t kept = 0, joint = 0, projected = 0;
    for (std::size_t block = 0; block < sizes.blocks(); ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      kept += chunk.is_stored();
      joint += chunk.is_stored() && is_joint(chunk.codec);
      projected += chunk.is_stored() && chunk.codec == projected_coding;
      stored.block_bytes.push_back(chunk.bytes);
      stored.block_object.push_back(chunk.object);
      if (chunk.is_stored()) stored.most_bytes = most_request_bytes(chunk.codec);
    }
    if (kept > 0) {
      stored.joint_share = static_cast<double>(joint) / static_cast<double>(kept);
      stored.projected_share = static_cast<double>(projected) / static_cast<double>(kept);
    }
    if (stored.most_bytes != largest_group_request || stored.shared_with.empty()) continue;
    stored.group_index = sizes.layers[layer - 1].group_index + 1;
    for (std::size_t i = 0; i <= stored.group_index; ++i) sizes.layers[layer - i].group_layers = stored.group_index + 1;
  }
  return sizes;
}

/// How a chunk of a manifest was coded.
[[nodiscard]] inline StoredCoding stored_coding(const Manifest& manifest, const ChunkRecord& chunk,
                                                std::size_t first_layer = 0) {
  return {chunk.codec, manifest.plans[chunk.plan].coders, first_layer};
}

/// What a stored chunk wants that is not among the codings: "profile 0123..." or a coder's name; empty if all is there,
/// or nobody has it.
[[nodiscard]] inline std::string missing_coding(const Manifest& manifest, const ChunkRecord& chunk,
                                                const CodingSet& codings) {
  const SavePlanRecord& plan = manifest.plans[chunk.plan];
  if (is_joint(chunk.codec)) {
    const bool there = codings.profile() && codings.profile()->hash() == plan.profile;
    return there ? std::string() : std::string(profile_prefix) + plan.profile;
  }
  if (chunk.codec < first_foreign_coding) return {};
  const auto coder = codings.find(stored_coding(manifest, chunk));
  const bool wanted = !coder && coder.error().code == ErrorCode::not_found;
  return wanted ? plan.coders[chunk.codec - first_foreign_coding] : std::string();
}

/// What chunks of the first `history` tokens want that is not among the codings, each name once.
[[nodiscard]] inline std::vector<std::string> missing_codings(const Manifest& manifest, std::size_t history,
                                                              const CodingSet& codings) {
  std::vector<std::string> names;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer)
    for (std::size_t block = 0; block * manifest.block < history; ++block) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (!chunk.is_stored()) continue;
      const std::string name = missing_coding(manifest, chunk, codings);
      if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  return names;
}

/// A sentence for each of missing_codings.
[[nodiscard]] inline std::vector<std::string> describe_missing(const Manifest& manifest, std::size_t history,
                                                               const CodingSet& codings) {
  std::vector<std::string> sentences = missing_codings(manifest, history, codings);
  for (std::string& name : sentences)
    name = "rows were coded with " + name + ", which is not at hand: recomputed; give krul that " +
           (name.starts_with(profile_prefix) ? "profile: the strategy's, or in ConversationOptions::codings"
                                             : "coder in ConversationOptions::codings");
  return sentences;
}

/// Blocks that are known not to be loaded before anything is read, ascending.
struct LostBlocks {
  std::vector<std::size_t> all = {};   ///< recomputed in every layer
  std::vector<std::size_t> gone = {};  ///< those of them that are damaged; the others only want a profile or a coder
  friend bool operator==(const LostBlocks&, const LostBlocks&) = default;
};

/// Blocks within the first `history` tokens of which some layer has no chunk behind its unstored front, one in an
/// object that is gone or too short, or one that nothing at hand decodes.
/// @param there  [objects] bytes of each that there are; or nothing, and all are taken to be there
[[nodiscard]] inline LostBlocks lost_blocks(const Manifest& manifest, std::span<const std::uint64_t> there,
                                            std::size_t history, const CodingSet& codings) {
  expects(there.empty() || there.size() == manifest.objects.size(), "lost_blocks: a size for each object");
  LostBlocks lost;
  const std::size_t blocks = (history + manifest.block - 1) / manifest.block;
  std::vector<std::size_t> fronts;
  for (std::size_t layer = 0; layer < manifest.layers; ++layer)
    fronts.push_back(unstored_front(manifest, layer, history));
  for (std::size_t block = 0; block < blocks; ++block) {
    bool gone = false, wants_coding = false;
    for (std::size_t layer = 0; layer < manifest.layers && !gone; ++layer) {
      const ChunkRecord& chunk = manifest.chunk(layer, block);
      if (block * manifest.block < fronts[layer]) continue;
      gone = !chunk.is_stored() || (!there.empty() && chunk.offset + chunk.bytes > there[chunk.object]);
      wants_coding = wants_coding || (!gone && !missing_coding(manifest, chunk, codings).empty());
    }
    if (gone) lost.gone.push_back(block);
    if (gone || wants_coding) lost.all.push_back(block);
  }
  return lost;
}

/// The same with what a store says. It is asked for all sizes together; an object whose size it cannot tell now is
/// taken to be there.
template <ConversationStore S>
[[nodiscard]] LostBlocks lost_blocks(S& store, const std::string& folder, const Manifest& manifest, std::size_t history,
                                     const CodingSet& codings = CodingSet()) {
  std::vector<std::uint64_t> there;
  for (const auto& size : object_sizes(store, object_keys(folder, manifest))) {
    const bool is_gone = !size && size.error().code == ErrorCode::not_found;
    there.push_back(is_gone ? 0 : size.value_or(UINT64_MAX));
  }
  return lost_blocks(manifest, there, history, codings);
}

}  // namespace krul
