#include "krul/compress/slerp_merge.hpp"
#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

#include <numbers>
#include <set>

#include "krul/compress/coding_set.hpp"
#include "krul/reference/forward.hpp"
#include "krul/reference/merge.hpp"
#include "support/codec_checks.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

using Bytes = std::vector<std::byte>;
using Settings = SlerpMerge::Settings;
using Width = SlerpMerge::Width;

struct Pair {
  Bytes shallower, deeper;
};

Bytes merged_chunk(const Geometry& geometry, const Pair& keys, const Pair& values, const Settings& settings,
                   const AnyRowCodec& codec) {
  const KvRows group[] = {{keys.shallower, values.shallower}, {keys.deeper, values.deeper}};
  return LayerPairCompressor(SlerpMerge(settings), codec).encode(geometry, group);
}

struct DecodedPair {
  Status status;
  Pair keys, values;
};

/// As a reader does it: the coding is known by its number alone.
DecodedPair read_chunk(const Geometry& geometry, std::span<const std::byte> chunk, std::size_t tokens,
                       const AnyRowCodec& codec) {
  DecodedPair back;
  for (Bytes* rows : {&back.keys.shallower, &back.keys.deeper, &back.values.shallower, &back.values.deeper})
    rows->assign(tokens * geometry.kv_row_bytes(), std::byte{0x5a});
  const MutableKvRows group[] = {{back.keys.shallower, back.values.shallower}, {back.keys.deeper, back.values.deeper}};
  const auto coding = CodingSet().find({krul_coding_number(LayerPairCompressor(SlerpMerge{}, codec).name()).value()});
  REQUIRE(coding);
  back.status = coding->decode(geometry, chunk, group);
  return back;
}

Pair merged_and_back(const Geometry& geometry, const Pair& pair, const Settings& settings = {},
                     const AnyRowCodec& codec = {}) {
  const auto chunk = merged_chunk(geometry, pair, pair, settings, codec);
  auto back = read_chunk(geometry, chunk, pair.deeper.size() / geometry.kv_row_bytes(), codec);
  REQUIRE(back.status);
  if (settings.merge_keys && settings.merge_values) {
    REQUIRE(back.keys.shallower == back.values.shallower);
    REQUIRE(back.keys.deeper == back.values.deeper);
  }
  return back.keys;
}

/// Which tokens a chunk retains in K: its bitmap follows the byte of flags.
std::vector<bool> retained_keys(const Bytes& chunk, std::size_t tokens) {
  std::vector<bool> retained;
  for (std::size_t i = 0; i < tokens; ++i)
    retained.push_back((std::to_integer<unsigned>(chunk[1 + i / 8]) >> i % 8 & 1U) != 0);
  return retained;
}

/// Rows at `angle` degrees to each other, in a plane.
Pair rows_at_angles(const std::vector<double>& degrees) {
  std::vector<double> x, y;
  for (const double angle : degrees) {
    const double radians = angle * std::numbers::pi / 180;
    x.insert(x.end(), {1, 0});
    y.insert(y.end(), {2 * std::cos(radians), 2 * std::sin(radians)});
  }
  return {to_bytes(ElementType::f32, x), to_bytes(ElementType::f32, y)};
}

/// A family's rows, and of the deeper layer others that have as much in common with them as `alike` says.
Pair some_pair(const KvFamily& family, const Geometry& geometry, std::size_t tokens, double alike) {
  const auto x = to_doubles(geometry.cache_type, kv_rows(family, geometry, tokens, 21));
  auto y = to_doubles(geometry.cache_type, kv_rows(family, geometry, tokens, 22));
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = alike * x[i] + (1 - alike) * y[i];
  return {to_bytes(geometry.cache_type, x), to_bytes(geometry.cache_type, y)};
}

struct MergeCase {
  Geometry geometry;
  Pair pair;
  Settings settings;
  std::size_t parts() const { return settings.width == Width::head ? geometry.kv_heads : 1; }
  std::size_t width() const { return geometry.kv_values() / parts(); }
};

constexpr std::size_t case_tokens = 21;

template <class Check>
void for_all_cases(Check&& check) {
  for (const ElementType type : all_types)
    for (const auto& family : kv_families)
      for (const std::size_t head_dim : {20U, 64U})
        for (const Width width : {Width::token, Width::head})
          for (const double alike : {0.0, 0.8}) {
            CAPTURE(name(type));
            CAPTURE(family.name);
            CAPTURE(head_dim);
            CAPTURE(alike);
            const Geometry geometry = kv_geometry(type, 3, head_dim);
            Settings settings;
            settings.width = width;
            check(MergeCase{geometry, some_pair(family, geometry, case_tokens, alike), settings});
          }
}

double distance(std::span<const double> a, std::span<const double> b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(squares);
}

/// Error of a cosine from float sums in 16 lanes: each of three sums of n products rounds n / 16 + 16 times, each
/// product and the two divisions once more.
double cosine_error(std::size_t width) {
  return (2 * (static_cast<double>(width) / 16 + 17) + 4) * 0x1p-24;
}

/// Largest error of an angle whose cosine has that error: the slope of acos is 1 / sin, and near 0 acos(1 - d) is
/// sqrt(2d) (1 + d/12 + ...).
double angle_error(double angle, double cosine) {
  return std::min(2 * cosine / std::max(std::sin(angle), 1e-9), 1.5 * std::sqrt(2 * cosine)) + 0x1p-22;
}

/// How far a merged vector may be from its twin, relative to its length; `e` is the twin's direction.
///
/// The direction is rounded to the cache's type and by the codec, then its length is put right, which may double these
/// errors. The scale is an f16; the product is rounded. The error of the cosine moves the direction by at most
/// cosine / sin^2 near opposite rows and cosine * angle near parallel ones, so by less than cosine (1 + 1 / (1 + cos)).
double merge_error(const MergeCase& all, const AnyRowCodec& codec, std::span<const double> e, double cosine) {
  const ElementType type = all.geometry.cache_type;
  double squares = 0;
  for (std::size_t head = 0; head < e.size(); head += all.geometry.head_dim) {
    double peak = 0;
    for (std::size_t i = head; i < head + all.geometry.head_dim; ++i) peak = std::max(peak, std::abs(e[i]));
    squares += peak * peak * static_cast<double>(all.geometry.head_dim);
  }
  const double coded = codec.relative_error(type) * std::sqrt(squares), unit = unit_roundoff(type);
  return 2 * (coded * (1 + unit) + unit + 0x1p-23) + 0x1p-11 + unit + 0x1p-20 +
         4 * cosine_error(e.size()) * (1 + 1 / (1 + cosine));
}

/// What rounding to subnormal values may add to a vector's error.
double subnormal_part(const MergeCase& all) {
  return smallest_subnormal(all.geometry.cache_type) * std::sqrt(static_cast<double>(all.width()));
}

}  // namespace

TEST_CASE("two vectors at a right angle: t moves the direction from the deeper layer's to the shallower one's") {
  const Geometry geometry = kv_geometry(ElementType::f32, 1, 2);
  const Pair pair{to_bytes(ElementType::f32, {3, 0}), to_bytes(ElementType::f32, {0, 4})};
  const double root = std::sqrt(0.5), from_deeper = 0.6 * std::numbers::pi / 2;
  const std::pair<double, std::array<double, 2>> expected[] = {
      {0.5, {root, root}}, {0.6, {std::sin(from_deeper), std::cos(from_deeper)}}, {0, {0, 1}}, {1, {1, 0}}};
  for (const auto& [t, e] : expected) {
    Settings settings;
    settings.t = t;
    const Pair back = merged_and_back(geometry, pair, settings);
    const auto shallower = to_doubles(ElementType::f32, back.shallower),
               deeper = to_doubles(ElementType::f32, back.deeper);
    for (std::size_t i = 0; i < 2; ++i) {
      // A length is an f16; some ten float roundings besides, and sin(pi / 2 * t) of a rounded pi.
      CHECK(std::abs(shallower[i] - 3 * e[i]) <= 3 * (0x1p-11 + 0x1p-20));
      CHECK(std::abs(deeper[i] - 4 * e[i]) <= 4 * (0x1p-11 + 0x1p-20));
    }
  }
}

TEST_CASE("the tokens that differ most are retained") {
  const Geometry geometry = kv_geometry(ElementType::f32, 1, 2);
  const auto retained = [&](const std::vector<double>& degrees, double gamma) {
    Settings settings;
    settings.gamma = gamma;
    const Pair pair = rows_at_angles(degrees);
    const auto set = retained_keys(merged_chunk(geometry, pair, pair, settings, {}), degrees.size());
    const Pair back = merged_and_back(geometry, pair, settings);
    for (std::size_t i = 0; i < set.size(); ++i) {  // all others lie where 0.6 of the angle leads
      const auto before = to_doubles(ElementType::f32, pair.deeper), after = to_doubles(ElementType::f32, back.deeper);
      const double turn = 0.4 * degrees[i] * std::numbers::pi / 180;
      CHECK(std::abs(after[2 * i] - (set[i] ? before[2 * i] : 2 * std::cos(turn))) <= 2 * (0x1p-11 + 0x1p-18));
    }
    return set;
  };
  CHECK(retained({10, 80, 40, 70}, 0.05) == std::vector<bool>{false, true, false, false});  // above 76.5 degrees
  CHECK(retained({10, 80, 40, 70}, 0.2) == std::vector<bool>{false, true, false, true});    // above 66
  CHECK(retained({10, 80, 40, 70}, 0) == std::vector<bool>(4, false));
  CHECK(retained({10, 80, 40, 70}, 1) == std::vector<bool>{false, true, true, true});
  CHECK(retained({30, 30, 30, 30}, 0.05) == std::vector<bool>(4, false));
  CHECK(retained({60}, 0.05) == std::vector<bool>(1, false));
}

TEST_CASE("merging agrees with its twin for every row codec") {
  for_all_cases([](const MergeCase& all) {
    const ElementType type = all.geometry.cache_type;
    const auto x = to_doubles(type, all.pair.shallower), y = to_doubles(type, all.pair.deeper);
    const auto twin = reference::merge_rows(x, y, case_tokens, {all.settings.t, all.settings.gamma, all.parts()});
    double slack = 0;  // of the angles, and of the threshold that comes from them
    for (const double angle : twin.angles)
      if (!std::isnan(angle)) slack = std::max(slack, angle_error(angle, cosine_error(all.width())));
    for (const AnyRowCodec& codec : AnyRowCodec::all()) {
      CAPTURE(codec.name());
      const auto chunk = merged_chunk(all.geometry, all.pair, all.pair, all.settings, codec);
      REQUIRE(chunk.size() <= LayerPairCompressor(SlerpMerge{}, codec).largest_bytes(all.geometry, case_tokens));
      const auto retained = retained_keys(chunk, case_tokens);
      const Pair back = merged_and_back(all.geometry, all.pair, all.settings, codec);
      for (std::size_t token = 0; token < case_tokens; ++token) {
        const double margin = std::abs(twin.angles[token] - twin.threshold);
        if (!(margin <= 4 * slack)) REQUIRE(retained[token] == twin.retained[token]);
        if (retained[token]) continue;
        for (std::size_t part = 0; part < all.parts(); ++part) {
          const std::size_t at = (token * all.parts() + part) * all.width();
          const auto part_of = [&](const std::vector<double>& rows) {
            return std::span(rows).subspan(at, all.width());
          };
          const auto e = reference::merged_direction(part_of(x), part_of(y), all.settings.t);
          const double cosine = std::cos(reference::merge_angle(part_of(x), part_of(y)));
          const double allowed = merge_error(all, codec, e, cosine);
          std::vector<double> out[2];
          double lengths[2];
          for (const bool deeper : {false, true}) {
            const auto layer = to_doubles(type, deeper ? back.deeper : back.shallower);
            const double length = reference::length(part_of(deeper ? y : x));
            auto expected = e;
            for (double& value : expected) value *= length;
            auto& found = out[deeper];
            found.assign(part_of(layer).begin(), part_of(layer).end());
            lengths[deeper] = length;
            REQUIRE(distance(found, expected) <= allowed * length + subnormal_part(all));
            // The scale makes up for the codec: an f16, the product's rounding, float sums.
            REQUIRE(std::abs(reference::length(found) - length) <=
                    (0x1p-11 + unit_roundoff(type) + 0x1p-19) * length + subnormal_part(all));
          }
          for (double& value : out[0]) value *= lengths[1] / lengths[0];
          // One direction: both rows differ by two scales and two roundings only.
          REQUIRE(distance(out[0], out[1]) <= (2 * (0x1p-11 + unit_roundoff(type)) + 0x1p-19) * lengths[1] +
                                                  (1 + lengths[1] / lengths[0]) * subnormal_part(all));
        }
      }
    }
  });
}

TEST_CASE("retained tokens come back as the row codec gives them") {
  for_all_cases([](const MergeCase& all) {
    const std::size_t row = all.geometry.kv_row_bytes();
    for (const AnyRowCodec& codec : AnyRowCodec::all()) {
      const auto retained =
          retained_keys(merged_chunk(all.geometry, all.pair, all.pair, all.settings, codec), case_tokens);
      const Pair back = merged_and_back(all.geometry, all.pair, all.settings, codec);
      for (const auto& [before, after] :
           {std::pair{&all.pair.shallower, &back.shallower}, {&all.pair.deeper, &back.deeper}})
        for (std::size_t token = 0; token < case_tokens; ++token) {
          if (!retained[token]) continue;
          const auto at = static_cast<std::ptrdiff_t>(token * row), end = at + static_cast<std::ptrdiff_t>(row);
          const Bytes one(before->begin() + at, before->begin() + end);
          REQUIRE(Bytes(after->begin() + at, after->begin() + end) ==
                  decoded(codec, all.geometry, encoded(codec, all.geometry, one), 1));
        }
    }
  });
}

TEST_CASE("merging what came back retains the same tokens and moves the others by rounding only") {
  for_all_cases([](const MergeCase& all) {
    const ElementType type = all.geometry.cache_type;
    const auto chunk = merged_chunk(all.geometry, all.pair, all.pair, all.settings, {});
    const Pair once = merged_and_back(all.geometry, all.pair, all.settings);
    const auto first = retained_keys(chunk, case_tokens);
    const auto second = retained_keys(merged_chunk(all.geometry, once, once, all.settings, {}), case_tokens);
    const Pair twice = merged_and_back(all.geometry, once, all.settings);
    for (const auto& [before, after] : {std::pair{&once.shallower, &twice.shallower}, {&once.deeper, &twice.deeper}}) {
      const auto a = to_doubles(type, *before), b = to_doubles(type, *after);
      for (std::size_t token = 0; token < case_tokens; ++token) {
        REQUIRE((!first[token] || second[token]));
        for (std::size_t part = 0; !second[token] && part < all.parts(); ++part) {
          const std::size_t at = (token * all.parts() + part) * all.width();
          const auto was = std::span(a).subspan(at, all.width()), is = std::span(b).subspan(at, all.width());
          // Each row is off the common direction by one rounding, and so is their merge; then as in merge_error.
          REQUIRE(distance(was, is) <=
                  (5 * unit_roundoff(type) + 0x1p-11 + 0x1p-18) * reference::length(was) + 4 * subnormal_part(all));
        }
      }
    }
  });
}

TEST_CASE("rows may be merged before or after the rotary embedding") {
  for (const Width width : {Width::token, Width::head}) {
    MergeCase all{kv_geometry(ElementType::f32, 2, 16), {}, {}};
    all.settings.width = width;
    all.pair = some_pair(kv_families[0], all.geometry, case_tokens, 0.5);
    const Rotary rotary{RotaryPairs::halves, 16, 10000.0};
    const auto rotated = [&](std::vector<double> rows) {
      for (std::size_t token = 0; token < case_tokens; ++token)
        reference::rotate(rotary, static_cast<Position>(1000 + token), std::span(rows).subspan(token * 32, 32), 16);
      return rows;
    };
    const auto x = to_doubles(ElementType::f32, all.pair.shallower), y = to_doubles(ElementType::f32, all.pair.deeper);
    const reference::MergeOptions options{0.6, 0.05, all.parts()};
    const auto before = reference::merge_rows(x, y, case_tokens, options);
    const auto after = reference::merge_rows(rotated(x), rotated(y), case_tokens, options);
    const auto expected = rotated(before.shallower);
    CHECK(before.retained == after.retained);
    // Sums of 32 doubles of magnitude 1, an angle near a right one: far fewer than 2^12 roundings.
    for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(std::abs(expected[i] - after.shallower[i]) <= 0x1p-40);

    const Pair turned{to_bytes(ElementType::f32, rotated(x)), to_bytes(ElementType::f32, rotated(y))};
    const auto back = to_doubles(ElementType::f32, merged_and_back(all.geometry, turned, all.settings).shallower);
    for (std::size_t token = 0; token < case_tokens; ++token) {
      const auto row = std::span(expected).subspan(token * 32, 32);
      REQUIRE(distance(row, std::span(back).subspan(token * 32, 32)) <= (0x1p-11 + 0x1p-16) * reference::length(row));
    }
  }
}

TEST_CASE("a token that cannot be merged is retained and does not decide about the others") {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const ElementType type : all_types) {
    const Geometry geometry = kv_geometry(type, 2, 8);
    const auto x = std::vector<double>(16, 1.0);
    std::vector<double> small(16, 0x1p-14), large(16, 60000.0), opposite(16, -2.0), zero(16, 0.0), bad = x, endless = x;
    bad[3] = std::nan("");
    endless[9] = infinity;
    std::vector<double> shallower, deeper;
    for (const auto& row : {x, small, large, opposite, zero, bad, endless, x}) {
      shallower.insert(shallower.end(), x.begin(), x.end());
      deeper.insert(deeper.end(), row.begin(), row.end());
    }
    for (const bool swapped : {false, true}) {
      Pair pair{to_bytes(type, shallower), to_bytes(type, deeper)};
      if (swapped) std::swap(pair.shallower, pair.deeper);
      for (const Width width : {Width::token, Width::head}) {
        Settings settings;
        settings.width = width;
        const auto retained = retained_keys(merged_chunk(geometry, pair, pair, settings, {}), 8);
        CHECK(retained == std::vector<bool>{false, true, true, true, true, true, true, false});
      }
      const Pair back = merged_and_back(geometry, pair);
      const auto row = static_cast<std::ptrdiff_t>(geometry.kv_row_bytes());
      CHECK(std::equal(back.shallower.begin() + row, back.shallower.end() - row, pair.shallower.begin() + row));
      CHECK(std::equal(back.deeper.begin() + row, back.deeper.end() - row, pair.deeper.begin() + row));
    }
  }
}

TEST_CASE("one head that cannot be merged retains its token where lengths are per head") {
  const Geometry geometry = kv_geometry(ElementType::f16, 2, 4);
  const std::vector<double> ones(8, 1.0);
  auto half = ones;
  std::fill_n(half.begin(), 4, 0.0);
  const Pair pair{to_bytes(ElementType::f16, half), to_bytes(ElementType::f16, ones)};
  Settings settings;
  CHECK(retained_keys(merged_chunk(geometry, pair, pair, settings, {}), 1) == std::vector<bool>{false});
  settings.width = Width::head;
  CHECK(retained_keys(merged_chunk(geometry, pair, pair, settings, {}), 1) == std::vector<bool>{true});
}

TEST_CASE("K or V can be left alone, and is then stored for both layers") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const Pair pair = some_pair(kv_families[0], geometry, 9, 0.5);
  for (const bool keys : {true, false}) {
    Settings settings;
    settings.merge_keys = keys;
    settings.merge_values = !keys;
    const auto chunk = merged_chunk(geometry, pair, pair, settings, {});
    CHECK(chunk[0] == std::byte{static_cast<unsigned char>(keys ? 1 : 2)});
    const auto back = read_chunk(geometry, chunk, 9, {});
    REQUIRE(back.status);
    CHECK(((back.keys.shallower == pair.shallower) == !keys));
    CHECK(((back.keys.deeper == pair.deeper) == !keys));
    CHECK(((back.values.shallower == pair.shallower) == keys));
    CHECK(((back.values.deeper == pair.deeper) == keys));
  }
}

TEST_CASE("a chunk holds what docs/format.md says, and nothing for no tokens") {
  const Geometry geometry = kv_geometry(ElementType::f16);
  const std::size_t row = geometry.kv_row_bytes();
  const Pair pair = some_pair(kv_families[0], geometry, 64, 0.5);
  for (const Width width : {Width::token, Width::head}) {
    Settings settings;
    settings.width = width;
    const auto chunk = merged_chunk(geometry, pair, pair, settings, {});
    CHECK(chunk[0] == std::byte{static_cast<unsigned char>(width == Width::head ? 7 : 3)});
    const auto set = retained_keys(chunk, 64);
    const auto kept = static_cast<std::size_t>(std::count(set.begin(), set.end(), true));
    CHECK(kept > 0);
    CHECK(chunk.size() == 1 + 2 * (8 + (64 - kept) * (width == Width::head ? 3 : 1) * 2 * 2 + (64 + kept) * row));
  }
  CHECK(merged_chunk(geometry, {}, {}, {}, {}) == Bytes{std::byte{3}});
  CHECK(read_chunk(geometry, Bytes{std::byte{3}}, 0, {}).status);
}

TEST_CASE("a chunk that no encoder writes is corrupt") {
  const Geometry geometry = kv_geometry(ElementType::f16, 1, 4);
  const Pair pair = some_pair(kv_families[0], geometry, 5, 0.5);
  const auto good = merged_chunk(geometry, pair, pair, {}, {});
  const auto outcome = [&](std::size_t at, unsigned value) {
    auto chunk = good;
    chunk[at] = static_cast<std::byte>(value);
    const auto back = read_chunk(geometry, chunk, 5, {});
    return back.status ? std::string("ok") : std::string(name(back.status.error().code));
  };
  CHECK(outcome(0, 3) == "ok");
  for (const unsigned flags : {0U, 4U, 8U, 0x83U, 0xffU}) CHECK(outcome(0, flags) == "corrupt");
  const unsigned bitmap = std::to_integer<unsigned>(good[1]);
  for (const unsigned bit : {32U, 64U, 128U}) CHECK(outcome(1, bitmap | bit) == "corrupt");
  CHECK(outcome(1, bitmap ^ 1U) == "corrupt");  // the length no longer fits
  // The upper byte of the first length: negative, infinite, subnormal, zero.
  for (const unsigned upper : {0xbcU, 0x7cU, 0x03U, 0x00U}) CHECK(outcome(3, upper) == "corrupt");
  CHECK(outcome(3, 0x3c) == "ok");
}

TEST_CASE("damaged chunks are refused or read, never read beyond") {
  std::mt19937_64 random(5);
  for (const AnyRowCodec& codec : AnyRowCodec::all())
    for (const Width width : {Width::token, Width::head}) {
      const Geometry geometry = kv_geometry(ElementType::bf16, 2, 37);
      Settings settings;
      settings.width = width;
      settings.merge_values = width == Width::token;
      const Pair pair = some_pair(kv_families[0], geometry, 11, 0.5);
      const auto good = merged_chunk(geometry, pair, pair, settings, codec);
      for (std::size_t length = 0; length < good.size(); ++length) {
        const Bytes cut(good.begin(),
                        good.begin() + static_cast<std::ptrdiff_t>(length));  // its own end, for sanitizers
        const auto back = read_chunk(geometry, cut, 11, codec);
        REQUIRE(!back.status);
        REQUIRE(back.status.error().code == ErrorCode::corrupt);
      }
      auto longer = good;
      longer.push_back(std::byte{0});
      CHECK(!read_chunk(geometry, longer, 11, codec).status);
      for (int round = 0; round < 2000; ++round) {
        auto damaged = good;
        const std::size_t range = round % 2 == 0 ? damaged.size() : 64;  // flags, bitmap and lengths lie in front
        for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
          damaged[random() % range] = static_cast<std::byte>(random() & 0xffU);
        const auto back = read_chunk(geometry, damaged, 11, codec);
        if (!back.status) REQUIRE(back.status.error().code == ErrorCode::corrupt);
      }
    }
}

TEST_CASE("settings that mean nothing are the caller's mistake") {
  const auto with = [](double t, double gamma, bool keys, bool values) {
    return SlerpMerge(Settings{t, gamma, Width::token, keys, values});
  };
  CHECK_NOTHROW(with(0, 1, true, false));
  CHECK_THROWS_AS(with(-0.1, 0.05, true, true), PreconditionError);
  CHECK_THROWS_AS(with(1.1, 0.05, true, true), PreconditionError);
  CHECK_THROWS_AS(with(std::nan(""), 0.05, true, true), PreconditionError);
  CHECK_THROWS_AS(with(0.6, -0.1, true, true), PreconditionError);
  CHECK_THROWS_AS(with(0.6, 1.1, true, true), PreconditionError);
  CHECK_THROWS_AS(with(0.6, 0.05, false, false), PreconditionError);
}
