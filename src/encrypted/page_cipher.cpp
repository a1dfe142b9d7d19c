#include "krul/store/page_cipher.hpp"

#include <sodium.h>

#include <algorithm>
#include <string>
#include <utility>

#include "wipe.hpp"

namespace krul {
namespace detail {

void wipe(std::span<std::byte> bytes) noexcept {
  sodium_memzero(bytes.data(), bytes.size());
}

}  // namespace detail

namespace {

using KeyId = std::array<std::byte, 8>;
using Nonce = std::array<std::byte, 24>;
static_assert(sizeof(Nonce) == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
static_assert(EncryptionKey::size == crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
static_assert(PageLayout::tag == crypto_aead_xchacha20poly1305_ietf_ABYTES);
static_assert(PageLayout::head == sizeof(KeyId) + sizeof(Nonce) + 8);

unsigned char* raw(std::byte* bytes) {
  return reinterpret_cast<unsigned char*>(bytes);
}
const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

void put_number(std::byte* to, std::uint64_t number) {
  for (int i = 0; i < 8; ++i) to[i] = static_cast<std::byte>(number >> (8 * i));
}
std::uint64_t number_at(const std::byte* from) {
  std::uint64_t number = 0;
  for (int i = 0; i < 8; ++i) number |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return number;
}

// Names a key and tells nothing of it.
KeyId id_of(const EncryptionKey& key) {
  static constexpr std::string_view text = "krul: id of an encryption key";
  std::array<unsigned char, crypto_generichash_BYTES_MIN> hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     raw(key.bytes().data()), key.bytes().size());
  KeyId id{};
  std::transform(hash.begin(), hash.begin() + id.size(), id.begin(), [](unsigned char c) { return std::byte{c}; });
  return id;
}

// The object's nonce with the page's index in its last 8 bytes: no two pages have the same one.
Nonce nonce_of(const Nonce& object, std::uint64_t index) {
  Nonce nonce = object;
  put_number(nonce.data() + 16, number_at(nonce.data() + 16) ^ index);
  return nonce;
}

// What a page is bound to beside the key.
std::string bound_to(std::string_view key, std::uint64_t index, std::uint64_t object_bytes) {
  std::string text = "krul page 1 ";
  text += key;
  std::array<std::byte, 16> numbers{};
  put_number(numbers.data(), index);
  put_number(numbers.data() + 8, object_bytes);
  for (const std::byte byte : numbers) text += static_cast<char>(byte);
  return text;
}

}  // namespace

struct PageCipher::Keys {
  std::vector<std::pair<KeyId, EncryptionKey>> all;  // the current one first
};

Result<PageCipher> PageCipher::make(EncryptionKeys keys) {
  if (sodium_init() < 0)
    return fail(ErrorCode::backend, "libsodium cannot be used: the system gives it no random numbers");
  auto shared = std::make_shared<Keys>();
  shared->all.emplace_back(id_of(keys.current), keys.current);
  for (const EncryptionKey& key : keys.older) shared->all.emplace_back(id_of(key), key);
  return PageCipher(std::move(shared));
}

std::vector<std::byte> PageCipher::seal(std::string_view key, std::span<const std::byte> object) const {
  const auto& [id, secret] = keys_->all.front();
  Nonce nonce{};
  randombytes_buf(nonce.data(), nonce.size());
  std::vector<std::byte> sealed(static_cast<std::size_t>(PageLayout::sealed_bytes(object.size())));
  std::byte* to = sealed.data();
  const std::uint64_t object_bytes = object.size();
  std::uint64_t index = 0;
  do {
    const auto page = object.first(std::min<std::size_t>(object.size(), PageLayout::page));
    object = object.subspan(page.size());
    to = std::copy(id.begin(), id.end(), to);
    to = std::copy(nonce.begin(), nonce.end(), to);
    put_number(to, object_bytes);
    to += 8;
    const std::string bound = bound_to(key, index, object_bytes);
    crypto_aead_xchacha20poly1305_ietf_encrypt(raw(to), nullptr, raw(page.data()), page.size(),
                                               reinterpret_cast<const unsigned char*>(bound.data()), bound.size(),
                                               nullptr, raw(nonce_of(nonce, index).data()), raw(secret.bytes().data()));
    to += page.size() + PageLayout::tag;
    ++index;
  } while (!object.empty());
  return sealed;
}

Result<OpenedPage> PageCipher::open(std::string_view key, std::uint64_t index, std::span<const std::byte> sealed,
                                    std::span<std::byte> to) const {
  expects(sealed.size() == to.size() + PageLayout::extra, "PageCipher::open: not the room that the page needs");
  const std::byte* const head = sealed.data();
  const auto secret = std::find_if(keys_->all.begin(), keys_->all.end(), [&](const auto& known) {
    return std::equal(known.first.begin(), known.first.end(), head);
  });
  if (secret == keys_->all.end())
    return fail(ErrorCode::corrupt, "object " + std::string(key) +
                                        " is encrypted with a key that is not here, or damaged; give the key it was "
                                        "saved with, or recompute what it held");
  OpenedPage page;
  std::copy_n(head + sizeof(KeyId), page.nonce.size(), page.nonce.begin());
  page.object_bytes = number_at(head + sizeof(KeyId) + sizeof(Nonce));
  const std::string bound = bound_to(key, index, page.object_bytes);
  const auto encrypted = sealed.subspan(PageLayout::head);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(raw(to.data()), nullptr, nullptr, raw(encrypted.data()),
                                                 encrypted.size(), reinterpret_cast<const unsigned char*>(bound.data()),
                                                 bound.size(), raw(nonce_of(page.nonce, index).data()),
                                                 raw(secret->second.bytes().data())) != 0)
    return fail(ErrorCode::corrupt,
                "object " + std::string(key) + " is not what was encrypted; recompute what it held");
  return page;
}

}  // namespace krul
