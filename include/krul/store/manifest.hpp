#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/checksum.hpp"
#include "krul/core/error.hpp"
#include "krul/core/identity.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// Where one chunk lies: the K and V of one block of tokens and one layer, or of several layers that share it and then
/// have equal records. A chunk of 0 bytes is not stored; then all other fields are 0 as well.
struct ChunkRecord {
  std::uint32_t object = 0;  ///< index into Manifest::objects
  std::uint64_t offset = 0;  ///< first byte in the object
  std::uint32_t bytes = 0;
  std::uint8_t codec = 0;  ///< number of the coding: see compress/coding_numbers.hpp
  std::uint8_t plan = 0;   ///< index into Manifest::plans
  Checksum hash{};         ///< of the bytes
  [[nodiscard]] bool is_stored() const noexcept { return bytes != 0; }
  friend bool operator==(const ChunkRecord&, const ChunkRecord&) = default;
};

/// How some chunks came about. The first three are for people; the others say what decoding and later saves need.
struct SavePlanRecord {
  std::string strategy = {};                      ///< "krul", "load-int8", ...
  std::string codec = {};                         ///< of single layers; or profile_prefix and the profile's hash
  std::string settings = {};                      ///< "pairs 3+7"
  std::string profile = {};                       ///< hash of the profile that coded groups of layers; empty: none did
  std::optional<std::int8_t> measured_step = {};  ///< code of the step that was measured for the conversation
  std::vector<std::string> coders = {};           ///< names of the chunks' codecs from 128 on, at most 128
  friend bool operator==(const SavePlanRecord&, const SavePlanRecord&) = default;
};

/// How a record's codec begins where a profile coded the rows. Formats before 1.2 said it in no other way.
inline constexpr std::string_view profile_prefix = "profile ";

/// All that is known of a saved conversation but the chunks themselves.
struct Manifest {
  std::string conversation;              ///< the id that was asked for: compare it after loading
  std::uint64_t generation = 0;          ///< of this save; each one is higher than the one before
  Identity identity;                     ///< what the state belongs to
  std::vector<Token> tokens;             ///< the whole history, each >= 0
  std::size_t rows = 0;                  ///< tokens whose K and V are stored, <= tokens.size()
  std::size_t layers = 0;                ///< L
  std::uint32_t block = 64;              ///< tokens of a block; the last one may be shorter
  std::vector<std::string> objects;      ///< segments: names in the conversation's folder, or keys of another one's
  std::vector<SavePlanRecord> plans;     ///< at most 256
  std::vector<ChunkRecord> chunks;       ///< [layers, blocks()]
  std::vector<std::byte> statistics;     ///< what serialize(AttentionStatistics) gave; empty if nobody looked
  std::vector<std::byte> row_attention;  ///< what serialize(RowAttention) gave; empty if nobody looked
  std::string texts = {};                ///< hash of what the tokens mean; empty if nobody knew
  std::string writer;                    ///< recorded only: "krul 0.1.0"
  std::uint64_t saved_unix_s = 0;        ///< recorded only: seconds since 1970

  [[nodiscard]] std::size_t blocks() const noexcept { return rows / block + (rows % block != 0); }
  /// @throws PreconditionError if there is no such chunk
  [[nodiscard]] const ChunkRecord& chunk(std::size_t layer, std::size_t block_index) const {
    expects(layer < layers && block_index < blocks(), "Manifest::chunk: no such chunk");
    return chunks[layer * blocks() + block_index];
  }
  friend bool operator==(const Manifest&, const Manifest&) = default;
};

/// Whether an object of a manifest lies in another conversation's folder: see conversation/fork.hpp.
[[nodiscard]] constexpr bool is_borrowed(std::string_view object) noexcept {
  return object.find('/') != std::string_view::npos;
}

/// The store's key of an object that a manifest in `folder` names.
[[nodiscard]] inline std::string object_key(const std::string& folder, const std::string& object) {
  return is_borrowed(object) ? object : folder + "/" + object;
}

/// The store's keys of all objects that a manifest in `folder` names, in the manifest's order.
[[nodiscard]] inline std::vector<std::string> object_keys(const std::string& folder, const Manifest& manifest) {
  std::vector<std::string> keys;
  for (const std::string& object : manifest.objects) keys.push_back(object_key(folder, object));
  return keys;
}

/// What parse_manifest accepts at most. Memory stays proportional to the bytes that were given in any case.
struct ManifestLimits {
  std::uint64_t bytes = 256 << 20;
  std::size_t tokens = 1 << 24;
  std::size_t layers = 1 << 12;
  std::size_t objects = 1 << 16;
  std::size_t text = 1 << 16;         ///< bytes of any one text
  std::uint32_t chunk = 256 << 20;    ///< bytes of any one chunk
  std::size_t statistics = 64 << 20;  ///< bytes, and of the rows' attention as many
};

/// The version of the format that is written: see docs/format.md.
inline constexpr std::uint16_t manifest_major = 1;  ///< another one is refused
inline constexpr std::uint16_t manifest_minor = 4;  ///< newest that is written, where less would not do; newer are read

/// corrupt or too_large, saying what, unless all fields fit together and below the limits.
[[nodiscard]] Status validate(const Manifest& manifest, const ManifestLimits& limits = {});

/// The bytes of docs/format.md. parse_manifest gives an equal manifest back.
/// @throws PreconditionError unless validate(manifest) succeeds
[[nodiscard]] std::vector<std::byte> serialize(const Manifest& manifest);

/// Reads what serialize wrote, in this or a newer minor version. Errors: truncated, corrupt, unsupported_version,
/// too_large. Any change to the bytes is an error.
/// @complexity  linear in bytes.size(), time and memory
[[nodiscard]] Result<Manifest> parse_manifest(std::span<const std::byte> bytes, const ManifestLimits& limits = {});

/// The index of a plan, which is added if it is not there. There is always room: plans that no chunk has any more are
/// forgotten for it, and if all are needed one with the same codec stands for it.
/// @post   every chunk's plan is what it was
/// @throws PreconditionError if 256 plans are needed and none has the codec
[[nodiscard]] std::uint8_t enter_plan(Manifest& manifest, const SavePlanRecord& plan);

/// Forgets objects that no chunk refers to.
/// @post   every chunk's object name is what it was
/// @throws PreconditionError if a chunk lies in an object that is not named
void drop_unused_objects(Manifest& manifest);

}  // namespace krul
