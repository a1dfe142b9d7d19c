#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

namespace krul::fuzz {

using Bytes = std::vector<std::byte>;

/// Something that reads bytes which krul does not trust. Any input must be read or refused; where what was read cannot
/// be right, the program ends.
struct Target {
  std::string_view name;
  void (*read)(std::span<const std::byte> input) = nullptr;
  std::vector<Bytes> (*seeds)() = nullptr;  ///< inputs that a fuzzer would hardly find by itself
  std::string_view missing = {};            ///< without which the rest is not here
};

/// How many saved talks inputs of the conversation target may change.
[[nodiscard]] std::size_t saved_talk_count();
/// Inputs of the conversation target that change one saved talk in one place: each bit of each byte flipped, each
/// object cut off at each byte, each gone.
/// @param stride  bits and bytes from one to the next
[[nodiscard]] std::vector<Bytes> changes_of_talk(std::size_t talk, std::size_t stride);

Target chat_template_target();
Target chunk_target();
Target conversation_target();
Target costs_target();
Target entropy_target();
Target gguf_target();
Target manifest_target();
Target profile_target();
Target redis_reply_target();
Target s3_answer_target();
Target sealed_target();
Target statistics_target();
Target texts_target();
Target tokenizer_target();
Target trace_target();

[[nodiscard]] inline std::vector<Target> all_targets() {
  return {chat_template_target(), chunk_target(),      conversation_target(), costs_target(),       entropy_target(),
          gguf_target(),          manifest_target(),   profile_target(),      redis_reply_target(), s3_answer_target(),
          sealed_target(),        statistics_target(), texts_target(),        tokenizer_target(),   trace_target()};
}

/// Those whose library this build has.
[[nodiscard]] inline std::vector<Target> built_targets() {
  std::vector<Target> targets = all_targets();
  std::erase_if(targets, [](const Target& target) { return target.read == nullptr; });
  return targets;
}

/// Ends the program unless something holds.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

/// A result that is refused has to say why.
template <class Checked>
bool accepted(const Checked& result) {
  if (!result) require(!result.error().message.empty(), "an error says nothing");
  return result.has_value();
}

/// Takes an input apart from the front. What is not there is zero.
class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : rest_(bytes) {}

  [[nodiscard]] bool is_empty() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::span<const std::byte> rest() const noexcept { return rest_; }
  std::span<const std::byte> take(std::size_t count) {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::size_t byte() {
    const auto taken = take(1);
    return taken.empty() ? 0 : std::to_integer<std::size_t>(taken[0]);
  }
  std::size_t two_bytes() {
    const std::size_t low = byte();
    return low | byte() << 8;
  }

 private:
  std::span<const std::byte> rest_;
};

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// An input: some bytes that choose, then what is read.
[[nodiscard]] inline Bytes joined(std::initializer_list<unsigned> choice, std::span<const std::byte> rest) {
  Bytes input;
  for (const unsigned value : choice) input.push_back(static_cast<std::byte>(value));
  input.insert(input.end(), rest.begin(), rest.end());
  return input;
}
[[nodiscard]] inline Bytes joined(std::initializer_list<unsigned> choice, std::string_view rest) {
  return joined(choice, std::as_bytes(std::span(rest)));
}

}  // namespace krul::fuzz
