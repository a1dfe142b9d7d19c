#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/conformance_report.hpp"
#include "krul/store/conversation_store.hpp"

namespace krul {

/// Where check_store has its stores from.
///
///   fresh()  an empty store, which shares nothing with those before it
///   again()  another handle of what the last fresh() one holds, as another process would have it
template <class M>
concept StoreMaker = requires(M& make) {
  { make.fresh() } -> ConversationStore;
  { make.again() } -> ConversationStore;
};

struct StoreCheckOptions {
  std::uint64_t largest = 6 << 20;   ///< bytes of the largest object that is written, unless the store allows less
  std::size_t objects = 40;          ///< that one folder holds at most; more than your store lists in one answer
  std::size_t threads = 4;           ///< that call at once, >= 2
  std::size_t rounds = 20;           ///< calls of one kind that each of them makes
  std::size_t whole_reads = 48'000;  ///< bytes that one get takes whole; a longer one may be made of several
};

namespace conformance {

inline const std::string store_folder = "0123456789abcdef0123456789abcdef";
inline const std::string other_folder = "0123456789abcdef0123456789abcdee";  // differs in the last digit

[[nodiscard]] inline std::string key_of(std::string_view object) {
  return store_folder + "/" + std::string(object);
}

/// `count` bytes that depend on `seed`: a piece of one is a piece of no other, and no place has zeros.
[[nodiscard]] inline std::vector<std::byte> object_bytes(std::size_t count, std::uint64_t seed) {
  std::vector<std::byte> bytes(count);
  std::uint64_t state = seed * 0x9e3779b97f4a7c15U + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<std::byte>((state >> 56) | 1);
  }
  return bytes;
}

/// @throws Broken unless it succeeded
template <class T>
void require_done(const Result<T>& result, const std::string& what) {
  if (!result)
    throw Broken(what + " fails with " + std::string(name(result.error().code)) + ": " + result.error().message);
}

/// @throws Broken unless it failed with `code` and a sentence
template <class T>
void require_fails(const Result<T>& result, ErrorCode code, const std::string& what) {
  require(!result, what + " succeeds; it should fail with " + std::string(name(code)));
  require(result.error().code == code, what + " fails with " + std::string(name(result.error().code)) +
                                           " in place of " + std::string(name(code)) + ": " + result.error().message);
  require(!result.error().message.empty(), what + " fails without a sentence that says what to do");
}

/// Reads with get what should be there.
/// @throws Broken unless it is
template <class S>
void require_holds(S& store, const std::string& key, std::span<const std::byte> bytes, const std::string& when) {
  const std::string object = "the object of " + std::to_string(bytes.size()) + " bytes, " + when + ", ";
  const auto size = store.size(key);
  require_done(size, "the size of " + object);
  require(*size == bytes.size(), object + "has a size of " + std::to_string(*size));
  std::vector<std::byte> read(bytes.size());
  require_done(store.get(key, 0, read), "getting " + object);
  require(std::equal(read.begin(), read.end(), bytes.begin()), object + "reads other bytes than were put");
}

}  // namespace conformance
}  // namespace krul
