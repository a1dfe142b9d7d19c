#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "krul/compress/coding_numbers.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/identity.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/shared_chunks.hpp"

namespace krul {

/// More bytes than a chunk of so many tokens and layers takes under any coding: twice its rows as floats, or what the
/// layers' inputs take, and room for headers and tables.
[[nodiscard]] inline std::uint64_t most_chunk_bytes(const Geometry& geometry, std::size_t tokens,
                                                    std::size_t layers) noexcept {
  constexpr std::uint64_t headers = 64 << 10;
  const std::uint64_t row = 2 * sizeof(float) * (2 * geometry.kv_values() + geometry.hidden);
  return headers + tokens * layers * row;
}

/// corrupt unless the coding of each chunk is one that its plan names, as far as this build knows both: rows of one
/// type would decode as those of another of the same size. Pairs and hidden states are coded as no plan says.
[[nodiscard]] inline Status fits_plans(const Manifest& manifest) {
  constexpr unsigned packed = sharing_of("packed"), separate = sharing_of("separate");
  std::vector<std::optional<std::uint8_t>> numbers;  // of the plans' codecs: few, where chunks are many
  for (const SavePlanRecord& plan : manifest.plans) numbers.push_back(krul_coding_number(plan.codec));
  for (const ChunkRecord& chunk : manifest.chunks) {
    if (!chunk.is_stored()) continue;
    const SavePlanRecord& plan = manifest.plans[chunk.plan];
    const auto& planned = numbers[chunk.plan];
    const unsigned sharing = chunk.codec >> 4;
    // Formats before 1.2 name a packed coding by its row codec alone.
    const bool other_codec =
        (sharing == separate || sharing == packed) && planned && (*planned & 0xfU) != (chunk.codec & 0xfU);
    const bool no_coder = chunk.codec >= first_foreign_coding &&
                          chunk.codec - first_foreign_coding >= static_cast<int>(plan.coders.size());
    if (is_joint(chunk.codec) == plan.profile.empty() || other_codec || no_coder)
      return fail(ErrorCode::corrupt, "the manifest is damaged: a chunk has another coding than its plan, " +
                                          plan.codec + "; use its other copy or restore it from a backup");
  }
  return {};
}

/// corrupt, saying what, unless all that a manifest claims is possible for a model that it names as its own. Sizes are
/// then safe to allocate.
/// @complexity O(L^2 * blocks)
[[nodiscard]] inline Status fits_model(const Manifest& manifest, const Geometry& geometry) {
  const auto corrupt = [](const std::string& what) {
    return fail(ErrorCode::corrupt,
                "the manifest is damaged: " + what + "; use its other copy or restore it from a backup");
  };
  if (manifest.layers != geometry.layers)
    return corrupt("it has " + std::to_string(manifest.layers) + " layers and its model " +
                   std::to_string(geometry.layers));
  for (const Token token : manifest.tokens)
    if (static_cast<std::size_t>(token) >= geometry.vocabulary)
      return corrupt("token " + std::to_string(token) + " is not in the vocabulary of " +
                     std::to_string(geometry.vocabulary));
  for (std::size_t block = 0; block < manifest.blocks(); ++block) {
    const std::size_t tokens = std::min<std::size_t>(manifest.block, manifest.rows - block * manifest.block);
    for (std::size_t layer = 0; layer < manifest.layers; ++layer) {
      const std::uint64_t bytes = manifest.chunk(layer, block).bytes;
      if (bytes <= most_chunk_bytes(geometry, tokens, 1)) continue;
      if (bytes > most_chunk_bytes(geometry, tokens, layers_of_chunk(manifest, layer, block).size()))
        return corrupt("the chunk of layer " + std::to_string(layer) + " and block " + std::to_string(block) +
                       " is larger than its rows can be");
    }
  }
  return {};
}

/// For load_manifest: corrupt unless the manifest is of a conversation that lives in this folder, and fits_plans.
struct ManifestOfFolder {
  std::string_view folder;

  [[nodiscard]] Status operator()(const Manifest& manifest) const {
    if (conversation_folder(manifest.conversation).value_or("") == folder) return fits_plans(manifest);
    return fail(ErrorCode::corrupt, "the manifest is that of another conversation; put it back into that one's folder");
  }
};

/// For load_manifest: corrupt unless the manifest is of this conversation, fits_plans and, if it is of this model, is
/// possible.
struct ManifestOf {
  std::string_view id;
  const Identity& identity;
  const Geometry& geometry;

  [[nodiscard]] Status operator()(const Manifest& manifest) const {
    if (manifest.conversation != id)
      return fail(ErrorCode::corrupt,
                  "the manifest is that of another conversation; put it back into that one's folder");
    if (auto status = fits_plans(manifest); !status) return status;
    return differences(manifest.identity, identity).empty() ? fits_model(manifest, geometry) : Status{};
  }
};

}  // namespace krul
