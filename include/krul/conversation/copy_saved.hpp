#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/fork.hpp"
#include "krul/conversation/manifest_check.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/object_sizes.hpp"

namespace krul {

/// How conversations are copied.
struct CopyOptions {
  bool replace = false;  ///< whatever conversation can be read there gives way, also a newer one or quite another
  bool check = false;    ///< what is there is read, and copied again where it is damaged; else sizes are compared
};

/// What copying one conversation did.
struct CopyReport {
  std::string conversation;       ///< its id
  bool is_newer_there = false;    ///< the same or a later state of it is there already: at most, damage was mended
  std::size_t objects = 0;        ///< that were written, but for the manifest
  std::uint64_t bytes = 0;        ///< of these
  std::vector<std::string> gone;  ///< objects that are not whole there: a restore recomputes what they lack
};

namespace detail {

/// Whether two manifests of an id say the same: when and where that was written does not matter.
[[nodiscard]] inline bool is_same_state(const Manifest& a, const Manifest& b) {
  return a.generation == b.generation && a.tokens == b.tokens && a.rows == b.rows && a.layers == b.layers &&
         a.block == b.block && a.objects == b.objects && a.plans == b.plans && a.chunks == b.chunks &&
         differences(a.identity, b.identity).empty();
}

/// Whether `earlier` may have become `later` by turns that were added.
[[nodiscard]] inline bool is_earlier_state(const Manifest& earlier, const Manifest& later) {
  return earlier.generation < later.generation && earlier.tokens.size() <= later.tokens.size() &&
         std::equal(earlier.tokens.begin(), earlier.tokens.end(), later.tokens.begin());
}

}  // namespace detail

/// Copies conversations from one store into another: from a folder to a server, say, or under another key.
template <ConversationStore From, ConversationStore To>
class ConversationCopier {
 public:
  /// Both stores must outlive the copier.
  ConversationCopier(From& from, To& to, CopyOptions options = {}) : from_(from), to_(to), options_(options) {}

  /// Copies what is saved in a folder, and what it borrows as a fork. Chunks are copied as they are, and the manifest
  /// last: what was there before is in force until then, and what has arrived when the copy is cut off is not copied
  /// again. What is there gives way to a later state of the same conversation, whose tokens begin with its own; to
  /// anything else only if that is asked for. Every chunk that is copied is compared with its checksum, and every one
  /// that is there with `check`; else an object is there if it is long enough.
  /// @return as load_manifest; busy if somebody writes the conversation there, or one that it borrows from;
  ///         invalid_argument if both went on from different turns, or are two conversations; what load_manifest says
  ///         of what is there if that cannot be read; too_large if there is no memory for an object; what either store
  ///         says
  /// @post   unless it can be read, what is there is what it was
  /// @post   if the source is saved again meanwhile, the copy is the save that was there at the beginning, and what it
  ///         lacks is told in `gone`
  /// @complexity  holds one object at a time, of either store, as far as the manifest names chunks in it
  [[nodiscard]] Result<CopyReport> copy(const std::string& folder) {
    const auto loaded = load_manifest(from_, folder, ManifestCopies::both, ManifestOfFolder{folder});
    if (!loaded) return propagate(loaded);
    const Manifest& manifest = loaded->manifest;
    CopyReport report;
    report.conversation = manifest.conversation;
    const auto lock = to_.lock(folder);
    if (!lock) return propagate(lock);
    const auto there = load_manifest(to_, folder, ManifestCopies::both, ManifestOfFolder{folder});
    if (!there && there.error().code != ErrorCode::not_found) return unreadable(folder, there.error());
    if (there && there->unread)
      return unreadable(folder, {ErrorCode::io, there->repaired + "; copy again once it can be read"});
    const bool is_same = there && detail::is_same_state(there->manifest, manifest);
    report.is_newer_there =
        is_same || (there && !options_.replace && detail::is_earlier_state(manifest, there->manifest));
    if (report.is_newer_there) {
      if (!options_.check && (!is_same || lacking(folder, manifest).empty())) return report;
    } else if (there && !options_.replace && !detail::is_earlier_state(there->manifest, manifest)) {
      return fail(
          ErrorCode::invalid_argument,
          "what is saved there is neither an earlier nor a later state of it: both went on from different turns, "
          "or they are two conversations; to put it in that one's place, krul copy --replace, "
          "CopyOptions::replace");
    }

    const Manifest& wanted = report.is_newer_there ? there->manifest : manifest;
    const auto lenders = lend(folder, wanted);  // until the manifest is there that borrows
    if (!lenders) return propagate(lenders);
    for (const Piece& piece : lacking(folder, wanted))
      if (auto status = copy_piece(piece, report); !status) return propagate(status);
    if (report.is_newer_there && !there->damaged) return report;
    // A second copy of a higher generation would be in force again if this were cut off between the two.
    const bool is_higher = there && there->repaired.empty() && there->manifest.generation >= wanted.generation;
    if (is_higher)
      if (auto status = to_.erase(folder + "/" + std::string(manifest_names.back())); !status) return propagate(status);
    const auto published = publish_manifest(to_, folder, wanted);
    if (!published) return propagate(published);
    static_cast<void>(collect_garbage(to_, folder, wanted));
    return report;
  }

 private:
  /// An object, and what of it the manifest names.
  struct Piece {
    std::string key;
    std::vector<const ChunkRecord*> chunks = {};
    std::uint64_t named = 0;                    ///< bytes up to the end of the last of them
    Result<std::uint64_t> here = 0, there = 0;  ///< bytes that either store has
  };

  /// What is there is somebody's, whether this copier can read it or not.
  [[nodiscard]] static tl::unexpected<Error> unreadable(const std::string& folder, const Error& error) {
    if (!means_damage(error.code) && error.code != ErrorCode::too_large && error.code != ErrorCode::unsupported_version)
      return tl::unexpected<Error>(error);  // it may be read another time
    return fail(error.code, "what is saved there in " + folder +
                                " cannot be read, as with another key; give its key, or erase it there first (" +
                                error.message + ")");
  }

  /// Writes down what is borrowed, unless a lender is there that cannot be read: its segments are not to be replaced.
  [[nodiscard]] Result<std::vector<typename To::Lock>> lend(const std::string& folder, const Manifest& manifest) {
    std::vector<typename To::Lock> lenders;
    const auto borrowed = borrowed_segments(manifest);
    for (const Borrowed& each : borrowed) {
      auto held = to_.lock(each.folder);
      if (!held) return propagate(held);
      lenders.push_back(std::move(*held));
      const auto lender = load_manifest(to_, each.folder, ManifestCopies::both, ManifestOfFolder{each.folder});
      if (!lender && lender.error().code != ErrorCode::not_found) return unreadable(each.folder, lender.error());
    }
    if (auto status = detail::put_loans(to_, folder, borrowed); !status) return propagate(status);
    return lenders;
  }

  /// The objects that are too short there, or that are to be checked. Each store is asked for all sizes together.
  [[nodiscard]] std::vector<Piece> lacking(const std::string& folder, const Manifest& manifest) {
    std::vector<Piece> pieces;
    for (std::string& key : object_keys(folder, manifest)) pieces.push_back({.key = std::move(key)});
    for (const ChunkRecord& chunk : manifest.chunks) {
      if (!chunk.is_stored()) continue;
      Piece& piece = pieces[chunk.object];
      piece.chunks.push_back(&chunk);
      piece.named = std::max(piece.named, chunk.offset + chunk.bytes);
    }
    ask_sizes(to_, pieces, &Piece::there);
    std::erase_if(pieces, [&](const Piece& piece) {
      return piece.chunks.empty() || (!options_.check && piece.there && *piece.there >= piece.named);
    });
    ask_sizes(from_, pieces, &Piece::here);
    return pieces;
  }

  template <class Store>
  static void ask_sizes(Store& store, std::vector<Piece>& pieces, Result<std::uint64_t> Piece::*size) {
    std::vector<std::string> keys;
    for (const Piece& piece : pieces) keys.push_back(piece.key);
    if (keys.empty()) return;
    auto sizes = object_sizes(store, keys);
    for (std::size_t i = 0; i < pieces.size(); ++i) pieces[i].*size = std::move(sizes[i]);
  }

  /// Puts together what is whole in either store, and writes it if that is more than what is there.
  [[nodiscard]] Status copy_piece(const Piece& piece, CopyReport& report) {
    const auto old = piece.there ? read(to_, piece, std::min(*piece.there, piece.named))
                                 : Result<std::vector<std::byte>>(propagate(piece.there));
    if (!old && !means_damage(old.error().code)) return propagate(old);
    const std::span<const std::byte> before = old ? std::span<const std::byte>(*old) : std::span<const std::byte>{};
    const auto is_whole_before = [&](const ChunkRecord* chunk) { return is_whole(before, *chunk); };
    if (std::ranges::all_of(piece.chunks, is_whole_before)) return {};

    // Never shorter than it was: a fork may need more of it.
    const std::uint64_t most = std::max(piece.named, piece.there.value_or(0));
    auto bytes = piece.here ? read(from_, piece, std::min(*piece.here, most))
                            : Result<std::vector<std::byte>>(propagate(piece.here));
    if (!bytes && !means_damage(bytes.error().code)) return propagate(bytes);
    std::size_t better = 0, lost = 0;
    if (bytes) {
      bytes->resize(std::max(bytes->size(), before.size()));
      for (const ChunkRecord* chunk : piece.chunks) {
        const bool was_whole = is_whole_before(chunk);
        if (is_whole(*bytes, *chunk))
          better += !was_whole;
        else if (was_whole)
          std::ranges::copy(before.subspan(chunk->offset, chunk->bytes), bytes->data() + chunk->offset);
        else
          ++lost;
      }
    }
    if (!bytes || lost > 0) report.gone.push_back(piece.key);
    if (better == 0) return {};
    if (auto status = to_.put(piece.key, *bytes); !status) return status;
    ++report.objects;
    report.bytes += bytes->size();
    return {};
  }

  /// So many bytes of an object; where that is damaged, what can be read of its chunks.
  template <class Store>
  [[nodiscard]] static Result<std::vector<std::byte>> read(Store& store, const Piece& piece, std::uint64_t size) {
    std::vector<std::byte> bytes;
    try {
      bytes.resize(static_cast<std::size_t>(size));
    } catch (const std::exception&) {  // a size that a damaged store makes up, say
      return fail(ErrorCode::too_large, "object " + piece.key + " has " + std::to_string(size) +
                                            " bytes, for which there is no memory: see whether it is what was saved");
    }
    Status status = store.get(piece.key, 0, bytes);
    if (status) return bytes;
    if (!means_damage(status.error().code) || status.error().code == ErrorCode::not_found) return propagate(status);
    for (const ChunkRecord* chunk : piece.chunks) {
      if (chunk->offset + chunk->bytes > size) continue;
      status = store.get(piece.key, chunk->offset, std::span(bytes).subspan(chunk->offset, chunk->bytes));
      if (!status && !means_damage(status.error().code)) return propagate(status);
    }
    return bytes;
  }

  [[nodiscard]] static bool is_whole(std::span<const std::byte> bytes, const ChunkRecord& chunk) {
    return chunk.offset + chunk.bytes <= bytes.size() &&
           checksum(bytes.subspan(chunk.offset, chunk.bytes)) == chunk.hash;
  }

  From& from_;
  To& to_;
  CopyOptions options_;
};

}  // namespace krul
