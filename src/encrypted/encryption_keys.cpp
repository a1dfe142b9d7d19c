#include "krul/store/encryption_keys.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>

#include "../core/descriptor.hpp"
#include "wipe.hpp"

namespace krul {

EncryptionKey::EncryptionKey(std::span<const std::byte, size> bytes) {
  std::copy(bytes.begin(), bytes.end(), bytes_.begin());
}

EncryptionKey::~EncryptionKey() {
  detail::wipe(bytes_);
}

Result<EncryptionKey> read_encryption_key(const std::filesystem::path& path) {
  const std::string action = "cannot read the key '" + path.string() + "': ";
  const auto refused = [&](int number) {
    return fail(number == ENOENT ? ErrorCode::not_found : ErrorCode::io,
                action + std::generic_category().message(number) + "; check the path and its rights");
  };
  const detail::Descriptor file(
      detail::uninterrupted([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  if (!file.is_open()) return refused(errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return refused(errno);
  if (!S_ISREG(status.st_mode)) return fail(ErrorCode::io, action + "it is no regular file; name one of 32 bytes");
  if ((status.st_mode & 077) != 0)
    return fail(ErrorCode::invalid_argument, action +
                                                 "others have rights to it; take them away with chmod 600, and "
                                                 "make a new key if others may have read it");
  const auto wrong_length = [&](const std::string& bytes) {
    return fail(ErrorCode::invalid_argument,
                action + "a key has 32 bytes, and it has " + bytes + "; write one with head -c 32 /dev/urandom");
  };
  if (status.st_size != static_cast<off_t>(EncryptionKey::size)) return wrong_length(std::to_string(status.st_size));
  struct Room {
    std::array<std::byte, EncryptionKey::size> bytes{};
    ~Room() { detail::wipe(bytes); }
  } room;
  for (std::size_t done = 0; done < room.bytes.size();) {
    const ssize_t count = detail::uninterrupted([&] {
      return ::pread(file.get(), room.bytes.data() + done, room.bytes.size() - done, static_cast<off_t>(done));
    });
    if (count < 0) return refused(errno);
    if (count == 0) return wrong_length(std::to_string(done));
    done += static_cast<std::size_t>(count);
  }
  return EncryptionKey(room.bytes);
}

}  // namespace krul
