#include "krul/compress/joint_transform.hpp"
#include "krul/compress/coding_numbers.hpp"
#include "krul/compress/joint/profile.hpp"

#include <doctest/doctest.h>

#include <map>
#include <numeric>

#include "krul/compress/coding_set.hpp"
#include "krul/compress/entropy/symbol_decoder.hpp"
#include "krul/compress/entropy/table_choice.hpp"
#include "krul/compress/joint/recent_rows.hpp"
#include "krul/compress/joint/step_classes.hpp"
#include "krul/core/half.hpp"
#include "krul/reference/joint_transform.hpp"
#include "support/profile_samples.hpp"

using namespace krul;
using namespace krul::testing;

namespace {

using Bytes = std::vector<std::byte>;

/// Rows of a group, and the features of their tokens.
struct Sample {
  Geometry geometry;
  std::size_t tokens, layers;
  Position first;
  std::vector<Bytes> bytes;     // [layers, 2]
  std::vector<float> features;  // [T, F]

  Sample(const Geometry& of, std::size_t tokens_, std::size_t layers_, Position first_, std::size_t f,
         std::uint64_t seed)
      : geometry(of), tokens(tokens_), layers(layers_), first(first_) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::vector<float> values(tokens * geometry.kv_values());
    for (std::size_t i = 0; i < 2 * layers; ++i) {
      for (float& value : values) value = normal(random);
      from_float(geometry.cache_type, values, bytes.emplace_back(tokens * geometry.kv_row_bytes()));
    }
    for (std::size_t i = 0; i < tokens * f; ++i) features.push_back(normal(random));
  }
  [[nodiscard]] std::vector<KvRows> rows() const {
    std::vector<KvRows> group;
    for (std::size_t layer = 0; layer < layers; ++layer) group.push_back({bytes[2 * layer], bytes[2 * layer + 1]});
    return group;
  }
  [[nodiscard]] std::vector<MutableKvRows> room() {
    std::vector<MutableKvRows> group;
    for (std::size_t layer = 0; layer < layers; ++layer) group.push_back({bytes[2 * layer], bytes[2 * layer + 1]});
    return group;
  }
  [[nodiscard]] BlockContext context() const { return {first, features}; }

  /// One token's K (0) or V (1) of all layers, [layers, G, D], keys turned back.
  [[nodiscard]] std::vector<double> values(std::size_t token, std::size_t tensor) const {
    std::vector<double> all;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      std::vector<float> row(geometry.kv_values());
      to_float(geometry.cache_type,
               std::span(bytes[2 * layer + tensor]).subspan(token * geometry.kv_row_bytes(), geometry.kv_row_bytes()),
               row);
      all.insert(all.end(), row.begin(), row.end());
    }
    if (tensor == 0) turn(all, token, true);
    return all;
  }
  void turn(std::vector<double>& heads, std::size_t token, bool back) const {
    const Rotary& rotary = geometry.rotary;
    for (std::size_t head = 0; head < heads.size() / geometry.head_dim; ++head)
      for (std::size_t pair = 0; pair < rotary.dimensions / 2; ++pair) {
        const bool interleaved = rotary.pairs == RotaryPairs::interleaved;
        const std::size_t at = head * geometry.head_dim + pair * (interleaved ? 2 : 1);
        double& a = heads[at];
        double& b = heads[at + (interleaved ? 1 : rotary.dimensions / 2)];
        const double angle =
            static_cast<double>(first + token) *
            std::pow(rotary.base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotary.dimensions));
        const double sine = back ? -std::sin(angle) : std::sin(angle), turned = a * std::cos(angle) - b * sine;
        b = b * std::cos(angle) + a * sine;
        a = turned;
      }
  }
};

/// The symbols of a run of rows, and which columns they are of.
struct Symbols {
  std::vector<std::size_t> tokens;      // of the run, in the order in which they are coded
  std::vector<std::int16_t> values[2];  // of K, of V: [coded columns, tokens]
  std::vector<std::size_t> coded[2];    // which columns are coded
  std::size_t count[2] = {};            // columns that count
};

/// The classes at the front of what follows a chunk's first row, which are taken off.
std::vector<std::uint8_t> classes_of(std::span<const std::byte>& rest, std::size_t tokens) {
  const unsigned first = std::to_integer<unsigned>(rest[0]), width = first >> 4;
  std::vector<std::uint8_t> classes(tokens, static_cast<std::uint8_t>(first & 15));
  for (std::size_t bit = 0; bit < tokens * width; ++bit)
    if ((rest[1 + bit / 8] >> bit % 8 & std::byte{1}) != std::byte{0})
      classes[bit / width] = static_cast<std::uint8_t>(classes[bit / width] + (1U << bit % width));
  rest = rest.subspan(1 + (tokens * width + 7) / 8);
  return classes;
}

/// What a chunk that begins behind position 0 holds, read by the format's description, run by run.
std::vector<Symbols> runs_of(const Bytes& chunk, const Profile& profile, std::size_t group, std::size_t tokens) {
  const int code = static_cast<std::int8_t>(chunk[8]);
  auto rest = std::span(chunk).subspan(10);
  const bool has_classes = chunk[9] == std::byte{4};
  std::vector<std::uint8_t> classes(tokens, StepClasses::usual);
  if (has_classes) classes = classes_of(rest, tokens);
  std::vector<std::size_t> order(tokens);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t token) { return classes[token]; });
  std::vector<Symbols> runs;
  std::vector<int> means, finest;  // classes less the usual one
  const std::size_t length = has_classes ? 32 : tokens;
  for (std::size_t first = 0; first < tokens; first += length) {
    Symbols run;
    double sum = 0;
    for (std::size_t i = first; i < std::min(first + length, tokens); ++i) {
      run.tokens.push_back(order[i]);
      sum += classes[order[i]];
    }
    means.push_back(static_cast<int>(std::floor(sum / static_cast<double>(run.tokens.size()) + 0.5)) - 8);
    finest.push_back(classes[order[first]] - (has_classes ? 10 : 8));
    runs.push_back(run);
  }
  const int pairs = static_cast<int>(std::round(code / 6.0));
  const auto lowered = [&](int index, int of) { return std::clamp(index - 2 * (pairs + of), 0, 62); };
  std::vector<std::uint8_t> expected;
  std::vector<std::vector<std::size_t>> places[2];  // of each run's coded columns among the first run's
  for (const std::size_t tensor : {0U, 1U}) {
    const auto& of = tensor == 0 ? profile.keys(group) : profile.values(group);
    places[tensor].resize(runs.size());
    for (std::size_t i = 0; i < of.tables.size(); ++i) {
      if (lowered(of.spreads[i], finest[0]) < JointTransform::least_spread) break;
      for (std::size_t run = 0; run < runs.size(); ++run) {
        if (lowered(of.spreads[i], finest[run]) < JointTransform::least_spread || runs[run].count[tensor] != i)
          continue;
        runs[run].count[tensor] = i + 1;
        if (lowered(of.tables[i], finest[run]) < JointTransform::least_table) continue;
        runs[run].coded[tensor].push_back(i);
        places[tensor][run].push_back(expected.size());
      }
      if (lowered(of.tables[i], finest[0]) >= JointTransform::least_table)
        expected.push_back(static_cast<std::uint8_t>(lowered(of.tables[i], means[0])));
    }
  }
  const std::size_t bytes = std::to_integer<std::size_t>(rest[0]) + 256 * std::to_integer<std::size_t>(rest[1]);
  std::vector<std::uint8_t> tables(expected.size());
  REQUIRE(decode_tables(rest.subspan(2, bytes), expected, profile.tables().size(), tables));
  const SymbolBlock most{expected.size(), runs[0].tokens.size()};
  auto decoder = SymbolDecoder::open(rest.subspan(2 + bytes), most.streams(), profile.tables()).value();
  for (const std::size_t tensor : {0U, 1U})
    for (std::size_t run = 0; run < runs.size(); ++run) {
      std::vector<std::uint8_t> of_run;
      for (const std::size_t place : places[tensor][run]) {
        const int moved = tables[place] == 0 ? 0 : std::max(1, tables[place] - 2 * (means[run] - means[0]));
        of_run.push_back(static_cast<std::uint8_t>(moved));
      }
      const SymbolBlock block{of_run.size(), runs[run].tokens.size()};
      REQUIRE(decoder.begin_block(block, of_run));
      runs[run].values[tensor].resize(block.symbols());
      REQUIRE(decoder.read(runs[run].values[tensor]));
    }
  REQUIRE(decoder.finish());
  return runs;
}

/// A column of a run: its coefficients in steps by the twin, and the symbols that they were coded as.
class CodedColumn {
 public:
  /// @param slack  that the coefficient may be off by
  void add(double coefficient, double symbol, double slack) { rows_.push_back({coefficient, symbol, slack}); }

  /// A symbol one larger takes 1 / (b ln 2) bits, b being the mean size of the coefficients, and each bit is worth 0.06
  /// squared steps: so far beyond the middle, but at most a quarter, a coefficient is for the larger symbol.
  /// @param priced  else it is for the nearest
  void check(bool priced) const {
    double sum = 0, slack = 0;
    for (const Row& row : rows_) {
      sum += std::abs(row.coefficient);
      slack += row.slack;
    }
    const auto beyond_middle = [&](double sizes) {
      if (!priced) return 0.0;
      return std::min(0.25, 0.03 / std::log(2) * static_cast<double>(rows_.size()) / std::max(sizes, 1e-9));
    };
    const double least = beyond_middle(sum + slack) - 1e-4, most = beyond_middle(sum - slack) + 1e-4;
    for (const Row& row : rows_) {
      const double beyond = std::abs(row.coefficient) - std::abs(row.symbol);
      CHECK(beyond <= 0.5 + most + row.slack);
      if (row.symbol == 0) continue;
      CHECK(row.coefficient * row.symbol > 0);
      CHECK(beyond >= least - 0.5 - row.slack);
    }
  }

 private:
  struct Row {
    double coefficient, symbol, slack;
  };
  std::vector<Row> rows_;
};

/// Of a chunk without classes.
Symbols symbols_of(const Bytes& chunk, const Profile& profile, std::size_t group, std::size_t tokens) {
  return runs_of(chunk, profile, group, tokens).front();
}

/// Classes as a plan may want them: some rows far finer than others.
std::vector<std::uint8_t> sample_classes(std::size_t tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::uint8_t> classes(tokens);
  for (auto& of : classes) of = static_cast<std::uint8_t>(3 + random() % 9);
  return classes;
}

}  // namespace

TEST_CASE("symbols and rows are those of the twin") {
  struct Coded {
    int code;
    bool has_classes = false;
    std::size_t tokens = 37;
  };
  for (const auto pairs : {RotaryPairs::interleaved, RotaryPairs::halves})
    for (const std::size_t features : {std::size_t{0}, std::size_t{32}})
      for (const Coded& how : {Coded{0}, {-9}, {12}, {0, true, 64}, {-9, true}}) {
        const auto& [code, has_classes, tokens] = how;
        CAPTURE(how.code);
        CAPTURE(how.has_classes);
        const Geometry geometry = profile_geometry(ElementType::f32, pairs);
        const auto data = random_profile(geometry, {1, 3}, 12, features, 7);
        const auto profile = Profile::create(data, geometry).value();
        const StepScale step{static_cast<std::int8_t>(code)};
        const auto classes =
            has_classes ? sample_classes(tokens, 5) : std::vector<std::uint8_t>(tokens, StepClasses::usual);
        const Sample sample(geometry, tokens, 3, 64, features, 11);
        const JointTransform coding(profile, 1, step);
        const Bytes chunk = coding.encode(geometry, sample.rows(), {sample.first, sample.features, classes});
        CHECK(chunk.size() <= coding.largest_bytes(geometry, tokens));
        const auto runs = runs_of(chunk, *profile, 1, tokens);
        CHECK(runs.size() == (has_classes && tokens > 32 ? 2 : 1));
        Sample back(geometry, tokens, 3, 64, features, 99);
        back.features = sample.features;
        REQUIRE(coding.decode(geometry, chunk, back.room(), back.context()));

        for (std::size_t tensor = 0; tensor < 2; ++tensor) {
          const TensorTransform& transform = tensor == 0 ? data.groups[1].keys : data.groups[1].values;
          std::map<std::pair<const Symbols*, std::size_t>, CodedColumn> of_columns;
          const reference::TransformTwin twin(transform, geometry.head_dim, features);
          for (std::size_t token = 0; token < tokens; ++token) {
            const Symbols& run = *std::ranges::find_if(
                runs, [&](const Symbols& each) { return std::ranges::find(each.tokens, token) != each.tokens.end(); });
            const auto& coded = run.coded[tensor];
            const std::size_t count = run.count[tensor], rows = run.tokens.size();
            const auto* first = run.values[tensor].data() + (std::ranges::find(run.tokens, token) - run.tokens.begin());
            const double factor = StepClasses::step(step, classes[token]).factor();
            const auto f = std::span(sample.features).subspan(token * features, features);
            const auto values = sample.values(token, tensor);
            auto y = twin.centred(values);
            // Rows are rounded to 127 steps of their largest value: each value is off by up to 1/254 of it, and what is
            // multiplied with a column by as much as their lengths allow. Sums in f32 add next to nothing to that.
            const auto rounding = [](const auto& row) {
              double largest = 0;
              for (const double each : row) largest = std::max(largest, std::abs(each));
              return largest / 254 * std::sqrt(static_cast<double>(row.size())) + 1e-5 * largest;
            };
            double column_length = 0;  // of R's
            for (std::size_t i = 0; i < features; ++i) column_length += std::pow(127 * 0.01, 2);
            const double predicted = rounding(f) * std::sqrt(column_length);
            // In a wide column y and Q are f32: what it rounds grows with the length of y.
            double length = 0;
            for (const double each : y) length += each * each;
            double slack = predicted + 1e-5 * std::sqrt(length);
            std::vector<double> as_coded(count);
            const std::size_t wide = std::min(count, transform.wide_basis.size() / transform.mean.size());
            const auto check_column = [&](std::size_t column) {
              const auto at = std::find(coded.begin(), coded.end(), column);
              if (at == coded.end()) return;
              const double symbol = first[static_cast<std::size_t>(at - coded.begin()) * rows];
              of_columns[{&run, column}].add(twin.coefficient(column, y, f) / factor, symbol, slack / factor);
              as_coded[column] = factor * (symbol + (symbol > 0 ? 0.05 : symbol < 0 ? -0.05 : 0));
            };
            for (std::size_t column = 0; column < wide; ++column) check_column(column);
            for (std::size_t column = 0; column < wide; ++column)
              twin.take_off(column, as_coded[column] + twin.predicted(column, f), y);
            // Q's columns have lengths of nearly 1.
            slack += 1.02 * rounding(y) + 1.02 * predicted * std::sqrt(static_cast<double>(wide));
            for (std::size_t column = wide; column < count; ++column) check_column(column);
            const auto expected = twin.values(as_coded, f);
            const auto found = back.values(token, tensor);
            std::vector<double> difference(values.size());
            for (std::size_t i = 0; i < values.size(); ++i) difference[i] = found[i] - expected[i];
            double error = 0;
            for (const double each : twin.weighted(difference)) error += each * each;
            // Each prediction is off, and each narrow value, in units of its column's scale, by 1/254 of the largest
            // one.
            std::vector<double> narrow;
            double inverse_scales = 0;
            for (std::size_t column = wide; column < count; ++column) {
              const double scale = transform.narrow_scales[column - wide];
              narrow.push_back(scale * (as_coded[column] + twin.predicted(column, f)));
              inverse_scales += 1 / (scale * scale);
            }
            const double largest =
                narrow.empty() ? 0
                               : std::abs(*std::ranges::max_element(narrow, {}, [](double x) { return std::abs(x); }));
            double wanted = 0;
            for (const double each : expected) wanted += each * each;
            // What a column adds to a value is rounded to 127 steps of the most that any adds: each is off by up to
            // half a step, and W makes that larger by no more than the sums of its rows.
            const auto& packed = tensor == 0 ? profile->keys(1) : profile->values(1);
            double sizes = 0, rounded = 0, growth = 0;
            for (std::size_t i = 0; i < narrow.size(); ++i) sizes += std::abs(narrow[i]);
            for (std::size_t i = 0; i < values.size(); ++i)
              rounded += std::pow(sizes * packed.synthesis.scales()[i] / 2, 2);
            for (std::size_t row = 0; row < packed.weights.size(); row += geometry.head_dim) {
              double sum = 0;
              for (std::size_t i = 0; i < geometry.head_dim; ++i) sum += std::abs(packed.weights[row + i]);
              growth = std::max(growth, sum);
            }
            CHECK(std::sqrt(error) <=
                  1.1 * (largest / 254 * std::sqrt(inverse_scales) + predicted * std::sqrt(static_cast<double>(count)) +
                         growth * std::sqrt(rounded)) +
                      1e-4 * std::sqrt(wanted) + 1e-4);
          }
          for (const auto& [of, column] : of_columns) column.check(has_classes);
        }
      }
}

TEST_CASE("coding what was decoded changes no symbol") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 16, 0, 3), geometry).value();
  Sample sample(geometry, 64, 4, 128, 0, 5);
  const JointTransform coding(profile, 0, StepScale{6});
  const Bytes chunk = coding.encode(geometry, sample.rows(), sample.context());
  REQUIRE(coding.decode(geometry, chunk, sample.room(), sample.context()));
  CHECK(coding.encode(geometry, sample.rows(), sample.context()) == chunk);
}

TEST_CASE("rows keep their symbols as long as they keep their classes") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 16, 0, 3), geometry).value();
  for (const Position first : {0, 128}) {
    Sample sample(geometry, 64, 4, first, 0, 5);
    auto classes = sample_classes(64, 9);
    for (auto& of : classes) of = std::max<std::uint8_t>(of, 7);  // finer steps are below what an f16 holds
    const BlockContext context{first, sample.features, classes};
    const JointTransform coding(profile, 0, coarsest_step);
    const Bytes chunk = coding.encode(geometry, sample.rows(), context);
    REQUIRE(coding.decode(geometry, chunk, sample.room(), sample.context()));  // classes are in the chunk
    CHECK(coding.encode(geometry, sample.rows(), context) == chunk);
  }
}

TEST_CASE("rows that are all of the usual class are coded as without classes") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 16, 0, 3), geometry).value();
  const Sample sample(geometry, 40, 4, 128, 0, 5);
  const std::vector<std::uint8_t> usual(40, StepClasses::usual), too_many(40, StepClasses::count);
  const JointTransform coding(profile, 0, StepScale{-6});
  CHECK(coding.encode(geometry, sample.rows(), {128, sample.features, usual}) ==
        coding.encode(geometry, sample.rows(), sample.context()));
  const auto encode = [&](std::span<const std::uint8_t> classes) {
    static_cast<void>(coding.encode(geometry, sample.rows(), {128, sample.features, classes}));
  };
  CHECK_THROWS_AS(encode(too_many), PreconditionError);
  CHECK_THROWS_AS(encode(std::span(usual).first(39)), PreconditionError);
}

TEST_CASE("a finer class errs less, and takes more bytes") {
  const Geometry geometry = profile_geometry(ElementType::f32);
  const auto profile = Profile::create(random_profile(geometry, {4}, 16, 0, 3), geometry).value();
  const Sample sample(geometry, 64, 4, 128, 0, 5);
  const JointTransform coding(profile, 0, StepScale{0});
  double error_before = 0;
  std::size_t bytes_before = 0;
  for (const int of : {4, 7, 10}) {
    std::vector<std::uint8_t> classes(64, static_cast<std::uint8_t>(of));
    classes[0] = StepClasses::usual;  // so that they are not all alike
    const Bytes chunk = coding.encode(geometry, sample.rows(), {128, sample.features, classes});
    Sample back = sample;
    REQUIRE(coding.decode(geometry, chunk, back.room(), sample.context()));
    double error = 0;
    for (std::size_t token = 1; token < 64; ++token) {
      const auto wanted = sample.values(token, 1), found = back.values(token, 1);
      for (std::size_t i = 0; i < wanted.size(); ++i) error += std::pow(wanted[i] - found[i], 2);
    }
    CHECK((bytes_before == 0 || chunk.size() < bytes_before));
    CHECK(error > error_before);
    bytes_before = chunk.size();
    error_before = error;
  }
}

TEST_CASE("rows that were coded finely while they were new lose nothing by it") {
  const Geometry geometry = profile_geometry(ElementType::f32);
  const auto profile = Profile::create(random_profile(geometry, {4}, 16, 0, 3), geometry).value();
  const RecentRows recent;
  for (const int code : {-12, 0, 6}) {
    CAPTURE(code);
    const StepScale step{static_cast<std::int8_t>(code)};
    const JointTransform coarse(profile, 0, step), fine(profile, 0, recent.step(step));
    Sample sample(geometry, 64, 4, 128, 0, 5);
    const Bytes at_once = coarse.encode(geometry, sample.rows(), sample.context());
    const Bytes when_new = fine.encode(geometry, sample.rows(), sample.context());
    CHECK(when_new.size() > at_once.size());
    REQUIRE(fine.decode(geometry, when_new, sample.room(), sample.context()));
    const Bytes later = coarse.encode(geometry, sample.rows(), sample.context());
    const Symbols wanted = symbols_of(at_once, *profile, 0, 64), found = symbols_of(later, *profile, 0, 64);
    REQUIRE(found.coded[0] == wanted.coded[0]);
    REQUIRE(found.coded[1] == wanted.coded[1]);
    // The bounds of a coarse step that holds symbol k lie (|k| + 1/2) |3 - ratio| fine steps from those of three fine
    // ones: as large a part of the values gets a neighbour. Twice as many, for int8 products.
    const double ratio = step.factor() / recent.step(step).factor();
    double expected = 0, differ = 0;
    for (const std::size_t tensor : {0U, 1U})
      for (std::size_t i = 0; i < wanted.values[tensor].size(); ++i) {
        const int symbol = wanted.values[tensor][i], later_symbol = found.values[tensor][i];
        expected += (std::abs(symbol) + 0.5) * std::abs(3 - ratio) / ratio;
        differ += symbol != later_symbol;
        CHECK(std::abs(symbol - later_symbol) <= 1);
      }
    CHECK(differ <= 2 * expected);
  }
}

TEST_CASE("only what ends near the end is recent, and is never coded more coarsely") {
  const RecentRows recent{.count = 64, .finer = 25};
  CHECK(recent.include(1024, 1024));
  CHECK(recent.include(961, 1024));
  CHECK_FALSE(recent.include(960, 1024));
  CHECK_FALSE(RecentRows{.count = 0}.include(1024, 1024));
  CHECK(recent.step({-2}).code == -27);
  CHECK(recent.step({-30}).code == finest_step.code);
  CHECK(recent.step({-50}).code == -50);
}

TEST_CASE("the row at position 0 is kept, or is the profile's") {
  for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16}) {
    const Geometry geometry = profile_geometry(type);
    const auto data = random_profile(geometry, {2, 2}, 8, 0, 3);
    const auto profile = Profile::create(data, geometry).value();
    const JointTransform coding(profile, 1);
    for (const std::size_t tokens : {1U, 2U, 40U}) {
      Sample sample(geometry, tokens, 2, 0, 0, tokens), back(geometry, tokens, 2, 0, 0, 1000);
      Bytes chunk = coding.encode(geometry, sample.rows(), sample.context());
      CHECK(chunk[9] == std::byte{1});
      REQUIRE(coding.decode(geometry, chunk, back.room(), back.context()));
      const std::size_t row = geometry.kv_row_bytes();
      for (std::size_t i = 0; i < 4; ++i)
        CHECK(std::equal(back.bytes[i].begin(), back.bytes[i].begin() + static_cast<std::ptrdiff_t>(row),
                         sample.bytes[i].begin()));

      const std::size_t stored = chunk.size();
      for (std::size_t i = 0; i < 4; ++i) {
        std::vector<float> values(geometry.kv_values());
        for (std::size_t j = 0; j < values.size(); ++j)
          values[j] = 1.001F * float_from_f16(data.first_row[(2 * 2 + i) * values.size() + j]);
        from_float(type, values, std::span(sample.bytes[i]).first(row));
      }
      chunk = coding.encode(geometry, sample.rows(), sample.context());
      CHECK(chunk[9] == std::byte{2});
      CHECK(chunk.size() + 4 * row == stored);
      REQUIRE(coding.decode(geometry, chunk, back.room(), back.context()));
      std::vector<float> found(geometry.kv_values());
      to_float(type, std::span(back.bytes[1]).first(row), found);
      CHECK(found[3] ==
            doctest::Approx(float_from_f16(data.first_row[(2 * 2 + 1) * found.size() + 3])).epsilon(0x1p-8));
    }
  }
}

TEST_CASE("chunks that cannot be its own are refused") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 10, 32, 3), geometry).value();
  const auto other = Profile::create(random_profile(geometry, {4}, 10, 32, 4), geometry).value();
  for (const auto& [first, has_classes] : {std::pair<Position, bool>(0, false), {64, false}, {0, true}, {64, true}}) {
    Sample sample(geometry, 20, 4, first, 32, 5), back(geometry, 20, 4, first, 32, 6);
    const JointTransform coding(profile, 0, StepScale{-4});
    const auto classes = sample_classes(20, 3);
    const Bytes chunk =
        coding.encode(geometry, sample.rows(),
                      {first, sample.features, has_classes ? std::span(classes) : std::span<std::uint8_t>{}});
    const auto decode = [&](const JointTransform& by, std::span<const std::byte> bytes, const BlockContext& context) {
      return by.decode(geometry, bytes, back.room(), context);
    };
    REQUIRE(decode(coding, chunk, sample.context()));
    CHECK(decode(JointTransform(other, 0), chunk, sample.context()).error().code == ErrorCode::unsupported);
    CHECK(decode(coding, chunk, {first, {}}).error().code == ErrorCode::unsupported);
    for (std::size_t length = 0; length < chunk.size(); ++length)
      CHECK_FALSE(decode(coding, std::span(chunk).first(length), sample.context()));
    Bytes longer = chunk;
    longer.push_back(std::byte{0});
    CHECK_FALSE(decode(coding, longer, sample.context()));
    // Changed bytes are found, or give other rows; nothing else happens. A chunk's checksum finds them all.
    std::mt19937_64 random(first + 1);
    for (int i = 0; i < 2000; ++i) {
      Bytes changed = chunk;
      for (std::size_t n = 0; n < 1 + random() % 4; ++n)
        changed[random() % changed.size()] = static_cast<std::byte>(random());
      static_cast<void>(decode(coding, changed, sample.context()));
    }
  }
}

TEST_CASE("a stored chunk names its coding, and needs the profile") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {1, 3}, 6, 0, 3), geometry).value();
  const AnyChunkCoder coding = JointTransform(profile, 1);
  CHECK(krul_coding_number(coding.name()) == joint_coding);
  CHECK(coding.layers() == 3);
  const auto found = CodingSet(profile).find({.number = joint_coding, .first_layer = 1});
  REQUIRE(found);
  CHECK(found->layers() == 3);
  CHECK(CodingSet().find({joint_coding}).error().code == ErrorCode::not_found);
  CHECK(CodingSet(profile).find({.number = joint_coding, .first_layer = 2}).error().code == ErrorCode::not_found);
  CHECK_FALSE(CodingSet(profile).find({.number = 0x4f, .first_layer = 1}));
}

TEST_CASE("misuse is refused") {
  const Geometry geometry = profile_geometry();
  const auto profile = Profile::create(random_profile(geometry, {4}, 6, 32, 3), geometry).value();
  CHECK_THROWS_AS(JointTransform(profile, 1), PreconditionError);
  CHECK_THROWS_AS(JointTransform(nullptr, 0), PreconditionError);
  Sample sample(geometry, 4, 4, 64, 32, 5);
  const JointTransform coding(profile, 0);
  CHECK_THROWS_AS((void)JointTransform{}.encode(geometry, sample.rows(), sample.context()), PreconditionError);
  CHECK_THROWS_AS((void)JointTransform{}.decode(geometry, {}, sample.room(), sample.context()), PreconditionError);
  CHECK_THROWS_AS((void)coding.encode(geometry, sample.rows(), {64, {}}), PreconditionError);
  auto fewer = sample.rows();
  fewer.pop_back();
  CHECK_THROWS_AS((void)coding.encode(geometry, fewer, sample.context()), PreconditionError);
  auto shorter = sample.rows();
  shorter[1].keys = shorter[1].keys.first(8);
  CHECK_THROWS_AS((void)coding.encode(geometry, shorter, sample.context()), PreconditionError);
}
