// Encrypts in memory, or is told why it cannot.
#include <array>
#include <iostream>
#include <string>
#include <utility>

#include "krul/store/encrypted_store.hpp"
#include "krul/store/memory_store.hpp"

int main() {
  const std::array<std::byte, krul::EncryptionKey::size> secret{};
  auto store = krul::EncryptedStore<krul::MemoryStore>::make(krul::MemoryStore(), {krul::EncryptionKey(secret)});
  if (!store) {
    std::cout << store.error().message << '\n';
    return store.error().code == krul::ErrorCode::unsupported ? 0 : 1;
  }
  const std::string key = std::string(32, 'a') + "/object";
  const std::array<std::byte, 3> object{std::byte{1}, std::byte{2}, std::byte{3}};
  std::array<std::byte, 3> read{};
  return store->put(key, object) && store->get(key, 0, read) && read == object ? 0 : 1;
}
