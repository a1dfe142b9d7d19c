#include "krul/compress/int4_codec.hpp"

#include <limits>

#include "krul/reference/row_codec.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

// 64 and 128 are whole groups, 80 has a short one of 16, 37 and 5 have odd ones.
constexpr std::size_t int4_head_dims[] = {5, 37, 64, 80, 128};

bool is_normal(const Geometry& geometry, const std::vector<std::byte>& rows) {
  for (const double value : to_doubles(geometry.cache_type, rows))
    if (value != 0 && std::abs(value) < 16 * smallest_normal(geometry.cache_type)) return false;
  return true;
}

std::string outcome(const Geometry& geometry, const std::vector<std::byte>& bytes) {
  std::vector<std::byte> rows(geometry.kv_row_bytes());
  const Status status = Int4Codec{}.decode(geometry, bytes, rows);
  return status ? "ok" : std::string(name(status.error().code));
}

}  // namespace

TEST_CASE("int4 keeps its error bound") {
  for_all_rows(int4_head_dims, 40, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    check_error_bound(Int4Codec{}, geometry, rows, subnormal_error(geometry.cache_type));
  });
}

TEST_CASE("int4 agrees with its twin") {
  for_all_rows(int4_head_dims, 40, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    const ElementType type = geometry.cache_type;
    const auto values = to_doubles(type, rows);
    const auto bytes = encoded(Int4Codec{}, geometry, rows);
    const auto back = to_doubles(type, decoded(Int4Codec{}, geometry, bytes, 40));
    std::size_t coded_at = 0;
    for (std::size_t head = 0; head < values.size(); head += geometry.head_dim)
      for (std::size_t at = 0; at < geometry.head_dim; at += 32) {
        const std::size_t count = std::min<std::size_t>(32, geometry.head_dim - at), half = (count + 1) / 2;
        const auto group = std::span(values).subspan(head + at, count);
        auto twin = reference::int4_encode(type, group);
        for (std::size_t i = 0; i < count; ++i) {
          const unsigned byte = std::to_integer<unsigned>(bytes[coded_at + 2 + i % half]);
          const int code = static_cast<int>(i < half ? byte & 15U : byte >> 4);
          // One float rounding of at most 2^-24 of 8 may turn a tie; the last code stands for all that is below it.
          const double exact = twin.peak != 0 ? 8 - 8 * group[i] / twin.peak : 0;
          REQUIRE((std::abs(exact - code) <= 0.5 + 8 * 0x1p-24 || (code == 15 && exact > 15)));
          twin.codes[i] = code;
        }
        const auto expected = reference::int4_decode(type, twin);
        for (std::size_t i = 0; i < count; ++i) REQUIRE(back[head + at + i] == expected[i]);  // no float rounds
        coded_at += 2 + half;
      }
    CHECK(coded_at == bytes.size());
  });
}

TEST_CASE("int4 does not drift: coding a decoded group gives the same bytes, of subnormals from the second time on") {
  for_all_rows(int4_head_dims, 40, [](const Geometry& geometry, const std::vector<std::byte>& rows) {
    const auto bytes = encoded(Int4Codec{}, geometry, rows);
    const auto once = decoded(Int4Codec{}, geometry, bytes, 40);
    const auto again = encoded(Int4Codec{}, geometry, once);
    if (is_normal(geometry, rows)) CHECK(again == bytes);
    CHECK(to_doubles(geometry.cache_type, decoded(Int4Codec{}, geometry, again, 40)) ==
          to_doubles(geometry.cache_type, once));
  });
}

TEST_CASE("four values by hand: the peak keeps its sign, its opposite becomes 7/8 of it") {
  const Geometry geometry = kv_geometry(ElementType::f16, 1, 5);
  const auto rows = to_bytes(ElementType::f16, {1, -8, 2.6, 8, -0.5});
  const auto bytes = encoded(Int4Codec{}, geometry, rows);
  // The peak is 8, the positive one of two as large; codes 7, 15, 5, 0, 8: -0.5 is a tie and goes to the even 0.
  const std::vector<std::byte> expected{std::byte{0x00}, std::byte{0x48}, std::byte{0x07}, std::byte{0x8f},
                                        std::byte{0x05}};
  CHECK(bytes == expected);
  CHECK(to_doubles(ElementType::f16, decoded(Int4Codec{}, geometry, bytes, 1)) == std::vector<double>{1, -7, 3, 8, 0});
}

TEST_CASE("int4 takes half a byte a value and two for each 32") {
  CHECK(Int4Codec{}.bytes(kv_geometry(ElementType::f16, 3, 64), 10) == 10 * 3 * (64 / 2 + 2 * 2));
  CHECK(Int4Codec{}.bytes(kv_geometry(ElementType::f32, 2, 37), 1) == 2 * (16 + 2 + 3 + 2));
}

TEST_CASE("a group with a value that is not finite comes back as NaN, its neighbours as they were") {
  for (const ElementType type : all_types)
    for (const double value :
         {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
      const Geometry geometry = kv_geometry(type, 1, 80);
      std::vector<double> values(80, 1.0);
      values[40] = value;
      const auto bytes = encoded(Int4Codec{}, geometry, to_bytes(type, values));
      const auto rows = decoded(Int4Codec{}, geometry, bytes, 1);
      const auto back = to_doubles(type, rows);
      for (std::size_t i = 0; i < 80; ++i) CHECK((i / 32 == 1 ? std::isnan(back[i]) : back[i] == 1.0));
      CHECK(encoded(Int4Codec{}, geometry, rows) == bytes);
    }
}

TEST_CASE("an f32 group of any size survives") {
  const Geometry geometry = kv_geometry(ElementType::f32, 1, 32);
  for (const double peak : {3.4028234663852886e38, -3.39e38, 1e30, -1.0, 1e-30, 0x1p-126}) {
    CAPTURE(peak);
    std::vector<double> values(32, peak / 3);
    values[9] = peak;
    const auto rows = to_bytes(ElementType::f32, values);
    check_error_bound(Int4Codec{}, geometry, rows, smallest_subnormal(ElementType::f32));
    const auto bytes = encoded(Int4Codec{}, geometry, rows);
    CHECK(encoded(Int4Codec{}, geometry, decoded(Int4Codec{}, geometry, bytes, 1)) == bytes);
  }
}

TEST_CASE("int4 bytes that no encoder writes are corrupt") {
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type, 1, 37);
    const auto good = encoded(Int4Codec{}, geometry, to_bytes(type, std::vector<double>(37, 2.0)));
    CHECK(outcome(geometry, good) == "ok");
    const auto with = [&](std::size_t at, unsigned peak, std::byte code) {
      std::vector<std::byte> bytes(good.size(), std::byte{0});
      bytes[at] = static_cast<std::byte>(peak & 0xffU);
      bytes[at + 1] = static_cast<std::byte>(peak >> 8);
      bytes[at + 2] = code;
      return bytes;
    };
    const unsigned infinity = type == ElementType::f16 ? 0x7c00U : 0x7f80U;
    for (const std::size_t at : {0U, 18U}) {  // a whole group, a short one
      CHECK(outcome(geometry, with(at, infinity, std::byte{0})) == "corrupt");
      CHECK(outcome(geometry, with(at, infinity | 0x8000U, std::byte{0})) == "corrupt");
      CHECK(outcome(geometry, with(at, 0x8000U, std::byte{0})) == "corrupt");
      CHECK(outcome(geometry, with(at, 0, std::byte{1})) == "corrupt");
      CHECK(outcome(geometry, with(at, 0, std::byte{0})) == "ok");
      CHECK(outcome(geometry, with(at, infinity + 1, std::byte{0})) == "ok");  // a NaN
      CHECK(outcome(geometry, with(at, infinity + 1, std::byte{1})) == "corrupt");
      CHECK(outcome(geometry, with(at, 0xbc00U, std::byte{0})) == "ok");  // a negative peak
    }
    auto odd = good;
    odd.back() = std::byte{0x10};  // the half that no value has
    CHECK(outcome(geometry, odd) == "corrupt");
  }
}

TEST_CASE("int4 checks lengths") {
  check_lengths(Int4Codec{});
}
