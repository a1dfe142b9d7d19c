// Flips and truncations of what is saved, half of them with the manifest's checksum made right again. KRUL_PROBES=N
// tries N of them.

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "probe_support.hpp"

namespace krul {
namespace {

using Random = std::mt19937_64;

std::vector<std::byte> object(MemoryStore& store, const std::string& key) {
  std::vector<std::byte> bytes(store.size(key).value());
  REQUIRE(store.get(key, 0, bytes));
  return bytes;
}

/// Some bits flipped, some bytes set to what counts and lengths make of them, or the end cut off.
void damage(std::vector<std::byte>& bytes, Random& random) {
  if (random() % 8 == 0) {
    bytes.resize(random() % bytes.size());
    return;
  }
  for (std::uint64_t i = 0, count = 1 + random() % 3; i < count; ++i) {
    const std::size_t at = random() % bytes.size();
    switch (random() % 4) {
      case 0:
        bytes[at] = std::byte{0xff};
        break;
      case 1:
        for (std::size_t k = at; k < std::min(at + 4, bytes.size()); ++k) bytes[k] = std::byte{0xff};
        break;
      default:
        bytes[at] ^= std::byte{1} << (random() % 8);
    }
  }
}

/// Length and checksum of a manifest made to fit.
void seal(std::vector<std::byte>& bytes) {
  constexpr std::size_t length_at = 12, header = 20;
  if (bytes.size() < header + sizeof(Checksum)) return;
  for (std::size_t i = 0; i < 8; ++i)
    bytes[length_at + i] = static_cast<std::byte>(std::uint64_t{bytes.size()} >> (8 * i));
  const Checksum hash = checksum(std::span(bytes).first(bytes.size() - sizeof(Checksum)));
  std::memcpy(bytes.data() + bytes.size() - hash.size(), hash.data(), hash.size());
}

/// Damages one saved talk and restores it; what went wrong, if anything.
std::string try_one(std::uint64_t seed) {
  Random random(seed);
  MemoryStore store;
  test::ToyTalk talk(store);
  if (!talk.turn(24) || !talk.turn(40)) return "it cannot be saved";
  const bool of_manifest = random() % 2 == 0, sealed = random() % 2 == 0, both = random() % 2 == 0;
  const auto objects = talk.manifest().objects;
  const std::string key =
      talk.folder + "/" +
      (of_manifest ? std::string(manifest_names[random() % 2]) : objects[random() % objects.size()]);
  auto bytes = object(store, key);
  damage(bytes, random);
  if (of_manifest && sealed) seal(bytes);
  if (!store.put(key, bytes)) return "no put";
  if (of_manifest && both)
    for (const auto name : manifest_names)
      if (!store.put(talk.folder + "/" + std::string(name), bytes)) return "no put";

  // Claims that fit together, of another model say, are refused; all others have a whole copy, or the tokens, left.
  const bool may_refuse = of_manifest && (both || sealed);
  const auto found = verify_conversation(store, talk.folder);
  const auto turn = talk.turn(50);
  if (!turn) {
    if (turn.error().message.empty()) return "no reason";
    return may_refuse ? "" : "one copy was good: " + turn.error().message;
  }
  if (!talk.is_right(50)) return "restored wrongly";
  if (!talk.is_clean()) return "not mended";
  if (!talk.turn(60) || !talk.is_right(60) || talk.last.repaired_rows > 0) return "not healed";
  return found || may_refuse ? "" : "verify gave up";
}

TEST_CASE("whatever is damaged or forged, nothing wrong is restored, and nothing crashes, hangs or takes much memory") {
  const std::size_t count = test::probes(400), batch = 100;
  for (std::size_t first = 0; first < count; first += batch) {
    const int ended = test::in_a_child([&] {
      const rlimit limit{std::uint64_t{1} << 30, std::uint64_t{1} << 30};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
      if (::setrlimit(RLIMIT_AS, &limit) != 0) return 1;
#else
      static_cast<void>(limit);
#endif
      ::alarm(300);
      for (std::size_t seed = first; seed < std::min(first + batch, count); ++seed)
        if (const std::string wrong = try_one(seed); !wrong.empty()) {
          std::fprintf(stderr, "seed %zu: %s\n", seed, wrong.c_str());
          return 2;
        }
      return 0;
    });
    REQUIRE(ended == 0);
  }
}

}  // namespace
}  // namespace krul
