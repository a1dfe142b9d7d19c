#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "krul/core/error.hpp"
#include "krul/store/encryption_keys.hpp"

namespace krul {

/// How an object is cut into pages. Each is encrypted by itself, so that a part of an object is read without the rest:
/// a page begins with what it takes to read it, and ends with a tag. An empty object is one page of nothing.
///
///   bytes    8          24                               8                    up to 16 KiB   16
///            key's id   nonce of the object's pages      bytes of the object  encrypted      tag
///
/// Small pages waste little of what is read around a chunk; at 56 bytes a page they cost a third of a percent.
struct PageLayout {
  static constexpr std::uint64_t page = 16 << 10, head = 40, tag = 16, extra = head + tag;

  /// Bytes of an encrypted object; UINT64_MAX if there is no such number.
  [[nodiscard]] static constexpr std::uint64_t sealed_bytes(std::uint64_t plain) noexcept {
    const std::uint64_t pages = std::max<std::uint64_t>(plain / page + (plain % page != 0), 1);
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    return plain > most - pages * extra ? most : plain + pages * extra;
  }
  /// Bytes of the object that was encrypted; none if no object is encrypted to so many.
  [[nodiscard]] static constexpr std::optional<std::uint64_t> plain_bytes(std::uint64_t sealed) noexcept {
    const std::uint64_t full = sealed / (page + extra), rest = sealed % (page + extra);
    if (rest == 0 && full > 0) return full * page;
    if (rest < extra || (rest == extra && full > 0)) return std::nullopt;
    return full * page + rest - extra;
  }
  /// Bytes of the largest object that is encrypted to at most `sealed`.
  [[nodiscard]] static constexpr std::uint64_t largest_plain(std::uint64_t sealed) noexcept {
    const std::uint64_t rest = sealed % (page + extra);
    return sealed / (page + extra) * page + (rest > extra ? rest - extra : 0);
  }
};

/// What a page says of the object it belongs to.
struct OpenedPage {
  std::array<std::byte, 24> nonce{};  ///< of no other object, nor of the same one when it is written again
  std::uint64_t object_bytes = 0;
  friend bool operator==(const OpenedPage&, const OpenedPage&) = default;
};

/// Encrypts objects page by page, with libsodium's XChaCha20-Poly1305. A page is bound to its object's key in the
/// store, to its place and to the object's length: exchanged, moved or cut off it is not accepted. Needs
/// krul::encrypted. Copies share the keys.
class PageCipher {
 public:
  /// @return unsupported if this build has no libsodium; backend if libsodium cannot be used
  [[nodiscard]] static Result<PageCipher> make(EncryptionKeys keys);

  /// The object, encrypted with the current key and a nonce of its own: PageLayout::sealed_bytes(object.size()) bytes.
  [[nodiscard]] std::vector<std::byte> seal(std::string_view key, std::span<const std::byte> object) const;

  /// Decrypts the page with the given index.
  /// @param to  exactly as long as `sealed` but for PageLayout::extra bytes
  /// @return corrupt if it is not what was encrypted, or with a key that is not here; `to` then holds nothing of it
  /// @throws PreconditionError if `to` has another length
  [[nodiscard]] Result<OpenedPage> open(std::string_view key, std::uint64_t index, std::span<const std::byte> sealed,
                                        std::span<std::byte> to) const;

 private:
  struct Keys;
  explicit PageCipher(std::shared_ptr<const Keys> keys) : keys_(std::move(keys)) {}
  std::shared_ptr<const Keys> keys_;
};

}  // namespace krul
