#pragma once

#include <string>
#include <vector>

#include "krul/backend/conformance/rows.hpp"
#include "krul/backend/kv_cache.hpp"
#include "krul/core/conformance_report.hpp"

namespace krul {

/// Proves a KvCache: what is written is read back bit for bit, and nothing else changes.
/// @param make      make(capacity) returns an empty cache for `geometry`
/// @complexity      some thousand transfers of up to 13 rows
template <class Make>
requires KvCache<std::invoke_result_t<Make&, std::size_t>> ConformanceReport check_kv_cache(Make&& make,
                                                                                            const Geometry& geometry) {
  using namespace conformance;
  constexpr std::size_t tokens = 13;
  const std::size_t bytes = geometry.kv_row_bytes(), layers = geometry.layers;
  const auto at = [](std::size_t layer, TokenRange range) {
    return "layer " + std::to_string(layer) + ", tokens [" + std::to_string(range.begin) + ", " +
           std::to_string(range.end) + ")";
  };
  const auto each_range = [&](auto&& visit) {
    for (std::size_t begin = 0; begin < tokens; ++begin)
      for (std::size_t end = begin + 1; end <= tokens; ++end) visit(TokenRange{begin, end});
  };
  const auto fill = [&](auto& cache, std::size_t count) {
    for (std::size_t layer = 0; layer < layers; ++layer)
      write_rows(cache, layer, {0, count}, rows_of(random_rows(geometry, count, layer), {0, count}, bytes));
  };
  ConformanceReport report;

  report.add("cache: starts empty and has room for what was asked", [&] {
    auto cache = make(tokens);
    require(cache.capacity() >= tokens, "capacity() is less than was asked for");
    require(cache.length() == 0, "length() is not 0");
    for (std::size_t layer = 0; layer < layers; ++layer)
      require(cache.present(layer).ranges().empty(), at(layer, {0, tokens}) + ": rows are present");
    return std::string();
  });

  report.add("cache: rows are read back bit for bit, from any range", [&] {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      auto cache = make(tokens);
      const auto written = random_rows(geometry, tokens, layer + 1);
      write_rows(cache, layer, {0, tokens}, rows_of(written, {0, tokens}, bytes));
      each_range([&](TokenRange range) {
        require(same_bits(rows_of(read_kv_rows(cache, geometry, layer, range), {0, range.size()}, bytes),
                          rows_of(written, range, bytes)),
                at(layer, range) + " reads other bits than were written");
      });
    }
    return std::string();
  });

  report.add("cache: a write touches no row that it does not name", [&] {
    auto cache = make(tokens);
    std::vector<OwnedKvRows> expected;
    for (std::size_t layer = 0; layer < layers; ++layer) {
      expected.push_back(random_rows(geometry, tokens, layer));
      write_rows(cache, layer, {0, tokens}, rows_of(expected.back(), {0, tokens}, bytes));
    }
    std::uint64_t seed = 100;
    const auto overwrite = [&](std::size_t layer, TokenRange range) {
      const auto fresh = random_rows(geometry, range.size(), ++seed);
      write_rows(cache, layer, range, rows_of(fresh, {0, range.size()}, bytes));
      const auto offset = static_cast<std::ptrdiff_t>(range.begin * bytes);
      std::ranges::copy(fresh.keys, expected[layer].keys.begin() + offset);
      std::ranges::copy(fresh.values, expected[layer].values.begin() + offset);
    };
    const auto compare = [&](std::size_t layer, const std::string& after) {
      require(read_kv_rows(cache, geometry, layer, {0, tokens}) == expected[layer],
              after + " changed rows of layer " + std::to_string(layer) + " that were not named");
    };
    each_range([&](TokenRange range) {
      overwrite(layers - 1, range);
      compare(layers - 1, "writing " + at(layers - 1, range));
    });
    for (std::size_t layer = 0; layer < layers; ++layer) {
      overwrite(layer, {3, 6});
      for (std::size_t other = 0; other < layers; ++other) compare(other, "writing " + at(layer, {3, 6}));
    }
    return std::string();
  });

  report.add("cache: present() names exactly the rows that were written", [&] {
    each_range([&](TokenRange range) {
      auto cache = make(tokens);
      TokenSet expected;
      for (const TokenRange part : {range, TokenRange{4, 4}, TokenRange{2, 5}, TokenRange{8, 9}}) {
        write_rows(cache, layers - 1, part, rows_of(random_rows(geometry, tokens, 7), part, bytes));
        expected.insert(part);
        require(cache.present(layers - 1).ranges() == expected.ranges(),
                "after writing " + at(layers - 1, part) + " other rows are present than were written");
      }
      if (layers > 1) require(cache.present(0).ranges().empty(), "rows are present in a layer that was not written");
    });
    return std::string();
  });

  report.add("cache: reading rows that are not there is refused", [&] {
    auto cache = make(tokens);
    const auto rows = random_rows(geometry, tokens, 1);
    write_rows(cache, 0, {0, 4}, rows_of(rows, {0, 4}, bytes));
    write_rows(cache, 0, {5, 9}, rows_of(rows, {5, 9}, bytes));
    for (const TokenRange range : {TokenRange{4, 5}, TokenRange{3, 6}, TokenRange{8, 10}})
      require_refused([&] { (void)read_kv_rows(cache, geometry, 0, range); }, "reading " + at(0, range));
    return std::string();
  });

  report.add("cache: commit needs every row of every layer", [&] {
    for (std::size_t absent = 0; absent < layers; ++absent) {
      auto cache = make(tokens);
      fill(cache, tokens - 1);
      cache.truncate(0);
      for (std::size_t layer = 0; layer < layers; ++layer) {
        const TokenRange range{0, layer == absent ? tokens - 2 : tokens - 1};
        write_rows(cache, layer, range, rows_of(random_rows(geometry, tokens, layer), range, bytes));
      }
      require_refused([&] { cache.commit(tokens - 1); },
                      "commit of a row that layer " + std::to_string(absent) + " does not have");
      require(cache.length() == 0, "a commit that was refused changed length()");
      cache.commit(tokens - 2);
      require(cache.length() == tokens - 2, "length() is not what was committed");
    }
    return std::string();
  });

  report.add("cache: truncate forgets from there on and nothing before", [&] {
    for (std::size_t count = 0; count <= tokens; ++count) {
      auto cache = make(tokens);
      fill(cache, tokens - 2);
      cache.commit(5);
      cache.truncate(count);
      require(cache.length() == std::min<std::size_t>(5, count), "truncate leaves a wrong length()");
      TokenSet expected;
      expected.insert({0, std::min(count, tokens - 2)});
      for (std::size_t layer = 0; layer < layers; ++layer) {
        require(cache.present(layer).ranges() == expected.ranges(), "truncate leaves other rows than those before it");
        const TokenRange left{0, std::min(count, tokens - 2)};
        require(same_bits(rows_of(read_kv_rows(cache, geometry, layer, left), left, bytes),
                          rows_of(random_rows(geometry, tokens - 2, layer), left, bytes)),
                "truncate changed rows before it");
      }
    }
    return std::string();
  });

  report.add("cache: rows beyond the capacity, wrong lengths and unknown layers are refused", [&] {
    auto cache = make(tokens);
    const std::size_t capacity = cache.capacity();
    const auto rows = random_rows(geometry, 3, 1);
    OwnedKvRows target = rows;
    const KvRows two = rows_of(rows, {0, 2}, bytes);
    const MutableKvRows three{target.keys, target.values};
    fill(cache, 3);
    const auto before = read_kv_rows(cache, geometry, 0, {0, 3});
    require_refused([&] { write_rows(cache, 0, {capacity - 1, capacity + 1}, two); }, "writing beyond the capacity");
    require_refused([&] { write_rows(cache, 0, {0, 3}, two); }, "writing three rows from spans of two");
    require_refused([&] { write_rows(cache, layers, {0, 2}, two); }, "writing to a layer beyond the last");
    require_refused([&] { cache.wait(cache.read_kv(0, {0, 2}, three)); }, "reading two rows into spans of three");
    require_refused([&] { cache.wait(cache.read_kv(layers, {0, 3}, three)); }, "reading a layer beyond the last");
    require(read_kv_rows(cache, geometry, 0, {0, 3}) == before && cache.present(0).contains({0, 3}) &&
                !cache.present(0).contains({capacity - 1, capacity}),
            "a call that was refused changed the cache");
    return std::string();
  });

  return report;
}

}  // namespace krul
