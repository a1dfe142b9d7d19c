// Stands in for the real cipher where libsodium was not found: make refuses, so nothing else can be reached.
#include "krul/store/page_cipher.hpp"

#include "../wipe.hpp"

namespace krul {
namespace detail {

void wipe(std::span<std::byte> bytes) noexcept {
  volatile std::byte* const to = bytes.data();
  for (std::size_t i = 0; i < bytes.size(); ++i) to[i] = std::byte{0};
}

}  // namespace detail

struct PageCipher::Keys {};

Result<PageCipher> PageCipher::make(EncryptionKeys) {
  return fail(
      ErrorCode::unsupported,
      "this build has no libsodium: install libsodium-dev and configure with KRUL_WITH_SODIUM, or use the store "
      "without encryption");
}

std::vector<std::byte> PageCipher::seal(std::string_view, std::span<const std::byte>) const {
  return {};
}
Result<OpenedPage> PageCipher::open(std::string_view, std::uint64_t, std::span<const std::byte>,
                                    std::span<std::byte>) const {
  return OpenedPage();
}

}  // namespace krul
