// A strategy of your own, compared with the catalogue on a model of your own, in one table. Each part may be krul's or
// yours: which layers share, how they are coded, what a save leaves out, what a restore recomputes.

#include <cstdint>
#include <iostream>
#include <krul/compress/int8_codec.hpp>
#include <krul/compress/layer_pair_compressor.hpp>
#include <krul/compress/slerp_merge.hpp>
#include <krul/eval/compare.hpp>
#include <krul/store/memory_store.hpp>
#include <krul/store/throttled_store.hpp>
#include <krul/strategy/catalogue.hpp>
#include <vector>

#include "../02_your_own_backend/toy_backend.hpp"

struct FirstAndLast {  // a selection policy: which layers are coded together
  [[nodiscard]] std::vector<krul::LayerPair> pairs(const krul::SelectionQuestion& question) const {
    return {{0, question.layers - 1}};
  }
};
struct FirstLayer {  // a restore policy: how many leading tokens of each layer are recomputed
  [[nodiscard]] std::vector<std::size_t> prefix(const krul::RestoreSizes& sizes, const krul::Costs&) const {
    std::vector<std::size_t> tokens(sizes.layers.size(), 0);
    tokens.front() = sizes.history;
    return tokens;
  }
};
using Merged = krul::LayerPairCompressor<krul::SlerpMerge, krul::Int8Codec>;
using Mine = krul::Composed<FirstAndLast, Merged, krul::FullLoad, FirstLayer>;

int main() {
  toy::Backend model;
  constexpr double link = 1e7;  // bytes a second, of the store and of the plans, so that they can be compared
  krul::ThrottledStore store(krul::MemoryStore{}, {.bytes_per_s = static_cast<std::uint64_t>(link), .burst = 0});
  krul::eval::ComparedText text;
  for (krul::Token token = 7; text.history.size() < 256; token = (token * 21 + 13) % 64) text.history.push_back(token);
  for (krul::Token token = 9; text.fresh.size() < 32; token = (token * 37 + 5) % 64) text.fresh.push_back(token);
  std::vector<krul::AnyStrategy> strategies = {Mine("mine")};
  for (const auto& listed : krul::strategy::catalogue()) strategies.push_back(listed.strategy);

  krul::eval::ComparisonSettings settings;
  // Guessed here; krul::eval::kept_costs measures them.
  settings.costs = krul::Costs{.link = {.bytes_per_s = link}, .layer = {.project_row_s = 1e-5, .finish_row_s = 1e-5}};
  std::cout << krul::eval::table_of(krul::eval::compare(model, {&text, 1}, store, strategies, settings).value());
}
