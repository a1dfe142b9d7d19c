#include "krul/compress/joint/profile.hpp"
#include "krul/compress/profile_belongs.hpp"
#include "krul/core/checksum.hpp"
#include "krul/core/half.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("a profile is read as it was written, and any change is found") {
  const ProfileData data = random_profile(profile_geometry(), {1, 3}, 6, 32, 1);
  const auto bytes = serialize(data);
  const auto read = parse_profile(bytes);
  REQUIRE(read);
  CHECK(*read == data);
  for (std::size_t i = 0; i < bytes.size(); i += 1 + bytes.size() / 300) {
    auto changed = bytes;
    changed[i] ^= std::byte{0x40};
    CHECK_FALSE(parse_profile(changed));
    CHECK_FALSE(parse_profile(std::span(bytes).first(i)));
  }
}

TEST_CASE("what is refused says how to make a profile again, for models of one's own, too") {
  const Geometry geometry = profile_geometry();
  const ProfileData data = random_profile(geometry, {1, 3}, 6, 32, 1);
  const auto bytes = serialize(data);
  const auto says_how = [](const auto& result, ErrorCode code) {
    REQUIRE_FALSE(result);
    CHECK(result.error().code == code);
    CHECK(result.error().message.find("with calibrate_profile, or krul calibrate") != std::string::npos);
  };
  says_how(parse_profile(std::span(bytes).first(10)), ErrorCode::truncated);
  auto other = bytes;
  other[0] ^= std::byte{1};
  says_how(parse_profile(other), ErrorCode::corrupt);
  other = bytes;
  other[8] ^= std::byte{4};  // the version, behind the magic
  const Checksum hash = checksum(std::span(other).first(other.size() - sizeof(Checksum)));
  std::memcpy(other.data() + other.size() - hash.size(), hash.data(), hash.size());
  says_how(parse_profile(other), ErrorCode::unsupported_version);

  auto changed = data;
  changed.geometry = "another";
  says_how(Profile::create(changed, geometry), ErrorCode::identity_mismatch);
  changed = data;
  changed.groups[0].keys.mean[0] = 1e30F;
  says_how(Profile::create(changed, geometry), ErrorCode::corrupt);

  const auto belongs = [&](const std::string& model, const Identity& here) {
    auto named = data;
    named.model = model;
    return belongs_to(*Profile::create(named, geometry).value(), here);
  };
  Identity here;
  here.weights = "5";
  here.geometry = data.geometry;
  CHECK(belongs("5", here));
  says_how(belongs("", here), ErrorCode::identity_mismatch);
  says_how(belongs("6", here), ErrorCode::identity_mismatch);
  here.geometry = "another";
  says_how(belongs("5", here), ErrorCode::identity_mismatch);
}

TEST_CASE("columns of few levels take six bits a value") {
  ProfileData data = random_profile(profile_geometry(), {1, 3}, 6, 32, 1);
  const std::size_t before = serialize(data).size();
  auto& values = data.groups[1].keys.prediction;
  for (std::size_t i = values.size() / 2; i < values.size(); ++i)
    values[i] = static_cast<std::int8_t>(static_cast<int>(i % 64) - 32);
  values[values.size() / 2 - 1] = 100;
  const auto bytes = serialize(data);
  CHECK(before - bytes.size() >= values.size() / 8 - 1);
  CHECK(parse_profile(bytes).value() == data);
}

TEST_CASE("a profile is named by its content") {
  const Geometry geometry = profile_geometry();
  ProfileData data = random_profile(geometry, {2, 2}, 6, 0, 1);
  const auto first = Profile::create(data, geometry);
  REQUIRE(first);
  CHECK((*first)->hash().size() == 32);
  CHECK((*first)->group_at(0) == 0);
  CHECK((*first)->group_at(2) == 1);
  CHECK((*first)->group_at(1) == 2);
  data.notes += ".";
  CHECK((*Profile::create(data, geometry))->id() != (*first)->id());
}

TEST_CASE("weights are undone") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 6, 0, 5), geometry).value();
  const auto& tensor = profile->keys(0);
  const std::size_t size = geometry.head_dim;
  const std::size_t n = tensor.mean.size();
  for (std::size_t column = 0; column < tensor.wide_columns(); ++column)
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t head = i / size;
      double sum = 0, terms = 0;
      for (std::size_t k = 0; k < size; ++k) {
        const double term = double{tensor.weights[i * size + k]} * tensor.wide_synthesis[column * n + head * size + k];
        sum += term;
        terms += std::abs(term);
      }
      // The inverse is rounded to float, and so is each of the `size` sums of a product with it.
      CHECK(std::abs(sum - tensor.wide[column * n + i]) <=
            static_cast<double>(size + 1) * 0x1p-24 * (terms + std::abs(tensor.wide[column * n + i])) * 2);
    }
}

TEST_CASE("profiles that do not fit together are refused") {
  const Geometry geometry = profile_geometry();
  const auto refused = [&](auto&& change) {
    ProfileData data = random_profile(geometry, {1, 3}, 6, 32, 1);
    REQUIRE(Profile::create(data, geometry));
    change(data);
    const auto result = Profile::create(std::move(data), geometry);
    return !result.has_value() && !result.error().message.empty();
  };
  CHECK(refused([](auto& data) { data.geometry = "another"; }));
  CHECK(refused([](auto& data) { data.features = 30; }));
  CHECK(refused([](auto& data) { data.first_row.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[1].first_layer = 2; }));
  CHECK(refused([](auto& data) { data.groups[1].layers = 4; }));
  CHECK(refused([](auto& data) { data.groups[0].keys.mean.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[0].keys.mean[0] = std::nanf(""); }));
  CHECK(refused([](auto& data) { data.groups[0].keys.mean[0] = 1e30F; }));
  CHECK(refused([](auto& data) { data.groups[0].keys.wide_basis.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[0].values.narrow_basis.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[0].values.prediction.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[0].values.prediction_scales.pop_back(); }));
  CHECK(refused([](auto& data) { data.groups[0].values.spreads.back() = 40; }));  // ascending
  CHECK(refused([](auto& data) { data.groups[0].values.spreads.front() = 64; }));
  CHECK(refused([](auto& data) { data.groups[0].values.tables.front() = 50; }));  // above its spread
  CHECK(refused([](auto& data) { data.groups[0].values.tables.clear(); }));
  CHECK(refused([](auto& data) { data.groups[0].values.weights[0] = f16_from_float(-1); }));
  CHECK(refused([](auto& data) { data.groups[0].values.weight_scales[0] = 0; }));
  CHECK(refused([](auto& data) { data.groups[0].values.weight_scales[0] = 1e-38F; }));  // a step is beyond any value
  CHECK(refused([](auto& data) { data.groups[0].values.weight_scales[0] = 1e-7F; }));
  CHECK(refused([](auto& data) { data.groups[0].keys.narrow_scales[0] = 1e30F; }));
  CHECK(refused([](auto& data) { data.groups[0].keys.wide_basis[0] = bf16_from_float(1e30F); }));
  CHECK(refused([](auto& data) { data.groups[0].keys.wide_basis[0] = 0x7fc0; }));  // NaN
}

TEST_CASE("a profile whose numbers no model has is refused, and says which") {
  const Geometry geometry = profile_geometry();
  const auto message = [&](auto&& change) {
    ProfileData data = random_profile(geometry, {1, 3}, 6, 32, 1);
    change(data);
    const auto result = Profile::create(std::move(data), geometry);
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::corrupt);
    return result.error().message;
  };
  const auto contains = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  for (const float mean : {1e30F, -7e4F})
    CHECK(contains(message([&](auto& data) { data.groups[1].keys.mean[3] = mean; }), "layer 1, a mean"));
  for (const float scale : {1e-38F, 1e-12F, 1e12F, -1.0F})
    CHECK_FALSE(message([&](auto& data) { data.groups[0].values.weight_scales[1] = scale; }).empty());
  CHECK(contains(message([](auto& data) { data.groups[0].values.weight_scales[0] = 1e-6F; }), "a step moves"));
  CHECK(contains(message([](auto& data) { data.groups[0].keys.wide_basis[2] = bf16_from_float(3); }), "longer than 1"));
  CHECK(contains(message([](auto& data) { data.groups[0].keys.wide_basis[2] = 0x7FC0; }), "more than a cache holds"));
  CHECK(contains(message([](auto& data) { data.groups[0].keys.narrow_scales[0] = 1e6F; }), "more than a cache holds"));
  CHECK(contains(message([](auto& data) { data.groups[0].keys.prediction_scales[1] = 1e12F; }), "a prediction"));
  CHECK(contains(message([](auto& data) { data.first_row[5] = 0x7C00; }), "first row"));
  for (const float infinite : {std::numeric_limits<float>::infinity(), std::nanf("")})
    CHECK_FALSE(message([&](auto& data) { data.groups[1].values.narrow_scales[0] = infinite; }).empty());
}

TEST_CASE("steps move the tables that are expected by whole pairs") {
  CHECK(StepScale{}.expected_table(17) == 17);
  CHECK(StepScale{6}.expected_table(17) == 15);
  CHECK(StepScale{-6}.expected_table(17) == 19);
  CHECK(StepScale{2}.expected_table(17) == 17);
  CHECK(StepScale{-16}.expected_table(17) == 23);
  CHECK(StepScale{127}.expected_table(17) == 0);
  CHECK(StepScale{-128}.expected_table(61) == 62);
  CHECK(StepScale{16}.factor() == 2);
}
