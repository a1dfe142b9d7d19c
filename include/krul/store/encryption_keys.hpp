#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "krul/core/error.hpp"

namespace krul {

/// A secret of 32 random bytes. Its memory is wiped when it dies. Needs krul::encrypted.
class EncryptionKey {
 public:
  static constexpr std::size_t size = 32;

  explicit EncryptionKey(std::span<const std::byte, size> bytes);
  EncryptionKey(const EncryptionKey&) = default;
  EncryptionKey& operator=(const EncryptionKey&) = default;
  ~EncryptionKey();

  [[nodiscard]] std::span<const std::byte, size> bytes() const noexcept { return bytes_; }

 private:
  std::array<std::byte, size> bytes_;
};

/// What is written is encrypted with the current key; what is read, with whichever it was encrypted with.
///
/// To change keys: make the new one current and the old one one of the older ones, on all machines. Old objects stay
/// readable, and each is encrypted anew when it is written again; `krul copy` writes all of a conversation. Once
/// nothing is left of an old key, leave it out: what it encrypted is damaged from then on.
struct EncryptionKeys {
  EncryptionKey current;
  std::vector<EncryptionKey> older = {};
};

/// A key from a file of exactly 32 bytes that nobody else may read (chmod 600), such as one that
/// `head -c 32 /dev/urandom` wrote.
/// @return not_found; io if the system refuses, or if it is no regular file; invalid_argument if it has another length
///         or others have rights to it
[[nodiscard]] Result<EncryptionKey> read_encryption_key(const std::filesystem::path& path);

}  // namespace krul
