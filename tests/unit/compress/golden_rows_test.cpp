// Coded rows have the same bytes, and decode to the same bits, at every instruction level, with every compiler and on
// every kind of processor: tests/vectors/coded-rows*.bin were written once.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/compress/joint_transform.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/core/byte_io.hpp"
#include "krul/core/checksum.hpp"
#include "krul/core/half.hpp"
#include "krul/similarity/detail/mix.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

using Bytes = std::vector<std::byte>;

std::filesystem::path golden_file() {
  return std::filesystem::path(KRUL_TEST_VECTORS) / "coded-rows.bin";
}
/// The same of rows with classes, since 1.3.
std::filesystem::path golden_file_of_classes() {
  return std::filesystem::path(KRUL_TEST_VECTORS) / "coded-rows-with-classes.bin";
}

/// Floats that whole numbers are made to, so that no library's random distribution comes into it: near a bell curve,
/// as the sum of four, with now and then a large one.
class ExactValues {
 public:
  explicit ExactValues(std::uint64_t seed) : seed_(seed) {}
  float operator()() {
    const std::uint64_t bits = detail::mix(seed_ += 1);
    int sum = 0;
    for (int part = 0; part < 4; ++part) sum += static_cast<int>(bits >> 12 * part & 4095) - 2048;
    const float scale = (bits >> 56) == 0 ? 0x1p-6F : 0x1p-11F;
    return static_cast<float>(sum) * scale;
  }

 private:
  std::uint64_t seed_;
};

/// K and V of a few layers, and the features of their tokens.
struct Rows {
  Geometry geometry;
  std::vector<Bytes> bytes;  // [layers, 2]
  std::vector<float> features;

  Rows(const Geometry& of, std::size_t tokens, std::size_t layers, std::size_t width) : geometry(of) {
    ExactValues draw(layers * 1000 + tokens);
    std::vector<float> values(tokens * geometry.kv_values());
    for (std::size_t i = 0; i < 2 * layers; ++i) {
      for (float& value : values) value = draw();
      from_float(geometry.cache_type, values, bytes.emplace_back(tokens * geometry.kv_row_bytes()));
    }
    for (std::size_t i = 0; i < tokens * width; ++i) features.push_back(draw());
  }
  [[nodiscard]] std::vector<KvRows> rows() const {
    std::vector<KvRows> group;
    for (std::size_t i = 0; i < bytes.size(); i += 2) group.push_back({bytes[i], bytes[i + 1]});
    return group;
  }
  [[nodiscard]] std::vector<MutableKvRows> room() {
    std::vector<MutableKvRows> group;
    for (std::size_t i = 0; i < bytes.size(); i += 2) group.push_back({bytes[i], bytes[i + 1]});
    return group;
  }
};

/// One way to code, and what it is given.
struct Case {
  std::string name;
  AnyChunkCoder coding;
  Rows rows;
  Position first = 0;
  std::vector<std::uint8_t> classes = {};
};

constexpr std::size_t features = 32;  // the hidden width of profile_geometry

std::vector<Case> cases(const std::shared_ptr<const Profile>& profile) {
  std::vector<Case> all;
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    Geometry geometry = profile_geometry(type);
    geometry.head_dim = 72;  // whole vectors and a rest, whole groups and a rest
    const std::string of_type = " of " + std::string(name(type));
    for (const auto& codec : AnyRowCodec::all()) {
      all.push_back(
          {std::string(codec.name()) + of_type, LayerPairCompressor(Separate{}, codec), Rows(geometry, 9, 1, 0)});
      all.push_back({"merged " + std::string(codec.name()) + of_type, LayerPairCompressor(SlerpMerge{}, codec),
                     Rows(geometry, 9, 2, 0)});
    }
    for (const auto pairs : {RotaryPairs::interleaved, RotaryPairs::halves})
      for (const int step : {-20, 0, 7})
        for (const Position first : {0, 200})
          all.push_back({"joint" + of_type, JointTransform(profile, 0, StepScale{static_cast<std::int8_t>(step)}),
                         Rows(profile_geometry(type, pairs), 45, 2, features), first});
  }
  return all;
}

std::vector<Case> cases_with_classes(const std::shared_ptr<const Profile>& profile) {
  std::vector<Case> all;
  for (const int step : {-20, 0, 7})
    for (const Position first : {0, 200}) {
      Case with{"joint with classes", JointTransform(profile, 0, StepScale{static_cast<std::int8_t>(step)}),
                Rows(profile_geometry(ElementType::f16, RotaryPairs::halves), 64, 2, features), first};
      for (std::uint64_t row = 0; row < 64; ++row)
        with.classes.push_back(static_cast<std::uint8_t>(2 + detail::mix(row + first) % 11));
      all.push_back(std::move(with));
    }
  return all;
}

std::shared_ptr<const Profile> profile_from(std::span<const std::byte> bytes) {
  auto data = parse_profile(bytes);
  REQUIRE_MESSAGE(data.has_value(), data.error().message);
  auto profile = Profile::create(std::move(*data), profile_geometry());
  REQUIRE_MESSAGE(profile.has_value(), profile.error().message);
  return *profile;
}

void append(ByteWriter& to, std::span<const std::byte> bytes) {
  to.number(static_cast<std::uint32_t>(bytes.size()));
  to.raw(bytes);
}

/// All rows of a case, one after the other.
Bytes joined(const Rows& rows) {
  Bytes all;
  for (const auto& part : rows.bytes) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Bytes decoded(const Case& item, std::span<const std::byte> chunk) {
  Rows room = item.rows;
  for (auto& part : room.bytes) std::fill(part.begin(), part.end(), std::byte{0});
  const auto status = item.coding.decode(room.geometry, chunk, room.room(), {item.first, item.rows.features});
  CHECK_MESSAGE(status.has_value(), item.name);
  return joined(room);
}

Bytes encoded(const Case& item) {
  return item.coding.encode(item.rows.geometry, item.rows.rows(), {item.first, item.rows.features, item.classes});
}

void write_golden(const std::filesystem::path& file, ByteWriter& out) {
  std::ofstream(file, std::ios::binary)
      .write(reinterpret_cast<const char*>(out.bytes().data()), static_cast<std::streamsize>(out.bytes().size()));
}

void append(ByteWriter& to, std::span<const Case> all) {
  for (const Case& item : all) {
    const Bytes chunk = encoded(item);
    append(to, chunk);
    const Checksum bits = checksum(decoded(item, chunk));
    to.raw(std::as_bytes(std::span(bits)));
  }
}

std::vector<char> golden_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::span<const std::byte> next_golden(ByteReader& from) {
  return from.take(from.number<std::uint32_t>());
}

/// Reads what append wrote.
void check_golden(ByteReader& reader, std::span<const Case> all) {
  for (const Case& item : all) {
    CAPTURE(item.name);
    const auto chunk = next_golden(reader), bits = reader.take(sizeof(Checksum));
    const Bytes found = encoded(item);
    CHECK(std::equal(found.begin(), found.end(), chunk.begin(), chunk.end()));
    const auto back = checksum(decoded(item, chunk));
    CHECK(std::ranges::equal(std::as_bytes(std::span(back)), bits));
  }
  CHECK(reader.finished());
}

}  // namespace

TEST_CASE("writes the golden files; run by hand when the format changes" * doctest::skip()) {
  ByteWriter out, of_classes;
  const Bytes stored = serialize(random_profile(profile_geometry(), {2, 2}, 13, features, 5));
  append(out, stored);
  append(out, cases(profile_from(stored)));
  write_golden(golden_file(), out);
  append(of_classes, cases_with_classes(profile_from(stored)));
  write_golden(golden_file_of_classes(), of_classes);
}

TEST_CASE("coded rows have the golden bytes and decode to the golden bits") {
  const auto text = golden_text(golden_file()), text_of_classes = golden_text(golden_file_of_classes());
  ByteReader reader(std::as_bytes(std::span(text))), of_classes(std::as_bytes(std::span(text_of_classes)));
  const auto profile = profile_from(next_golden(reader));
  check_golden(reader, cases(profile));
  check_golden(of_classes, cases_with_classes(profile));
}
