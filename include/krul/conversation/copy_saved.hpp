#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/manifest_check.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/object_sizes.hpp"

namespace krul {

/// What copying one conversation did.
struct CopyReport {
  std::string conversation;       ///< its id
  bool is_newer_there = false;    ///< the same or a later save is there already: nothing was done
  std::size_t objects = 0;        ///< that were written, but for the manifest
  std::uint64_t bytes = 0;        ///< of these
  std::vector<std::string> gone;  ///< objects that could not be read whole: a restore recomputes what they held
};

/// Copies conversations from one store into another: from a folder to a server, say, or under another key.
template <ConversationStore From, ConversationStore To>
class ConversationCopier {
 public:
  /// Both must outlive the copier.
  ConversationCopier(From& from, To& to) : from_(from), to_(to) {}

  /// Copies what is saved in a folder, and what it borrows as a fork. Chunks are copied as they are, and the manifest
  /// last: what was there before is in force until then, and what has arrived when the copy is cut off is not copied
  /// again. Every chunk is compared with its checksum on the way.
  /// @return as load_manifest; busy if somebody writes the conversation there; what either store says
  /// @post   if the source is saved again meanwhile, the copy is the save that was there at the beginning, and what it
  ///         lacks is told in `gone`
  /// @complexity  holds one object at a time
  [[nodiscard]] Result<CopyReport> copy(const std::string& folder) {
    const auto loaded = load_manifest(from_, folder, ManifestCopies::both, ManifestOfFolder{folder});
    if (!loaded) return propagate(loaded);
    const Manifest& manifest = loaded->manifest;
    CopyReport report;
    report.conversation = manifest.conversation;
    const auto lock = to_.lock(folder);
    if (!lock) return propagate(lock);
    auto there = load_manifest(to_, folder, ManifestCopies::both, ManifestOfFolder{folder});
    if (!there && there.error().code != ErrorCode::not_found && there.error().code != ErrorCode::corrupt)
      return propagate(there);  // it may be newer
    report.is_newer_there = there && there->manifest.generation >= manifest.generation;
    if (report.is_newer_there) return report;

    std::vector<typename To::Lock> lenders;  // until the manifest is there that borrows
    for (const auto& [lender, segments] : borrowed_segments(manifest)) {
      auto held = to_.lock(lender);
      if (!held) return propagate(held);
      lenders.push_back(std::move(*held));
      const auto content = loan_content(segments);
      if (auto status = to_.put(lender + "/" + loan_name(folder, content), content); !status) return propagate(status);
    }
    for (const Piece& piece : pieces_of(folder, manifest))
      if (auto status = copy_piece(piece, report); !status) return propagate(status);
    const auto published = publish_manifest(to_, folder, manifest);
    if (!published) return propagate(published);
    static_cast<void>(collect_garbage(to_, folder, manifest));
    return report;
  }

 private:
  /// An object, and what of it the manifest names.
  struct Piece {
    std::string key;
    std::vector<const ChunkRecord*> chunks = {};
    Result<std::uint64_t> here = 0, there = 0;  ///< bytes that either store has
  };

  /// Each store is asked for all sizes together.
  [[nodiscard]] std::vector<Piece> pieces_of(const std::string& folder, const Manifest& manifest) {
    const auto keys = object_keys(folder, manifest);
    auto here = object_sizes(from_, keys), there = object_sizes(to_, keys);
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < keys.size(); ++i)
      pieces.push_back({.key = keys[i], .here = std::move(here[i]), .there = std::move(there[i])});
    for (const ChunkRecord& chunk : manifest.chunks)
      if (chunk.is_stored()) pieces[chunk.object].chunks.push_back(&chunk);
    return pieces;
  }

  [[nodiscard]] Status copy_piece(const Piece& piece, CopyReport& report) {
    if (!piece.here) return or_gone(propagate(piece.here), piece.key, report);
    if (piece.there && *piece.there == *piece.here) return {};
    std::vector<std::byte> bytes;
    try {
      bytes.resize(static_cast<std::size_t>(*piece.here));
    } catch (const std::exception&) {  // a size that a damaged store makes up, say
      return fail(ErrorCode::too_large, "object " + piece.key + " has " + std::to_string(*piece.here) +
                                            " bytes, for which there is no memory: see whether it is what was saved");
    }
    if (const Status read = from_.get(piece.key, 0, bytes); !read) return or_gone(read, piece.key, report);
    const bool is_whole = std::ranges::all_of(piece.chunks, [&](const ChunkRecord* chunk) {
      return chunk->offset + chunk->bytes <= bytes.size() &&
             checksum(std::span(bytes).subspan(chunk->offset, chunk->bytes)) == chunk->hash;
    });
    if (!is_whole) report.gone.push_back(piece.key);  // what of it is whole is of use
    if (auto status = to_.put(piece.key, bytes); !status) return status;
    ++report.objects;
    report.bytes += bytes.size();
    return {};
  }

  /// Damage to the source is told, and no reason to stop.
  [[nodiscard]] static Status or_gone(Status failed, const std::string& key, CopyReport& report) {
    if (!means_damage(failed.error().code)) return failed;
    report.gone.push_back(key);
    return {};
  }

  From& from_;
  To& to_;
};

}  // namespace krul
