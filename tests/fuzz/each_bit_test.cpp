// Small inputs of every target with each bit flipped and cut off at each byte, and saved conversations likewise: a
// clear error, the same content or rows that were computed anew. With KRUL_DAMAGE_ROUNDS every bit of every object.
#include <doctest/doctest.h>

#include <cstdlib>

#include "fuzz_target.hpp"

namespace krul::fuzz {
namespace {

/// Reads changed copies of an input, evenly spread over it.
/// @param most  flips, and cuts
void read_changed(const Target& target, const Bytes& input, std::size_t most) {
  const std::size_t bits = 8 * input.size(), stride = 1 + bits / (most + 1);
  for (std::size_t bit = 0; bit < bits; bit += stride) {
    Bytes changed = input;
    changed[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    CHECK_NOTHROW(target.read(changed));
  }
  for (std::size_t at = 0; at < input.size(); at += 1 + input.size() / (most + 1))
    CHECK_NOTHROW(target.read(std::span(input).first(at)));
}

TEST_CASE("each bit of a small input may be another one, and each byte its last") {
  for (const Target& target : built_targets()) {
    CAPTURE(target.name);
    if (target.name == "conversation") continue;  // below
    // What is large or slow is tried in fewer places.
    const bool is_slow = target.name == "gguf" || target.name == "profile" || target.name == "chat_template";
    const std::size_t most = is_slow && std::getenv("KRUL_DAMAGE_ROUNDS") == nullptr ? 100 : 10'000;
    for (const Bytes& seed : target.seeds()) read_changed(target, seed, most);
  }
}

TEST_CASE("bits of a saved conversation may be other ones, and each byte an object's last") {
  const Target target = conversation_target();
  const bool each = std::getenv("KRUL_DAMAGE_ROUNDS") != nullptr;  // half a millisecond a change
  for (std::size_t talk = 0; talk < saved_talk_count(); ++talk) {
    CAPTURE(talk);
    for (const Bytes& change : changes_of_talk(talk, each ? 1 : talk == 0 ? 9 : 73)) CHECK_NOTHROW(target.read(change));
  }
}

}  // namespace
}  // namespace krul::fuzz
