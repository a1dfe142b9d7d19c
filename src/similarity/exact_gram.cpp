#include "krul/similarity/exact_gram.hpp"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "gram_reducer.hpp"
#include "krul/core/error.hpp"
#include "krul/model/aligned_buffer.hpp"
#include "krul/similarity/detail/mix.hpp"

namespace krul {
namespace {

using detail::GramReducer;
using detail::row_unit;
using detail::segment_values;

constexpr std::size_t slab_segments = 64;  // of all layers: some megabytes, so that large pages serve them
constexpr std::size_t slab_values = slab_segments * segment_values;

constexpr std::size_t whole_units(std::size_t values) {
  return (values + row_unit - 1) / row_unit * row_unit;
}

/// The weights of all layers of one block of query rows.
struct Block {
  std::deque<AlignedBuffer> slabs;  // [slab_segments, L, segment_values] bf16 each
  std::size_t values = 0;           // of each layer
};

/// Takes the first slab of a block and its weights.
AlignedBuffer reduce_slab(Block& block, GramReducer& into) {
  AlignedBuffer slab = std::move(block.slabs.front());
  block.slabs.pop_front();
  const std::size_t values = std::min(block.values, slab_values);
  block.values -= values;
  into.add(slab.as<std::uint16_t>().data(), values);
  return slab;
}

}  // namespace

struct ExactGram::State {
  struct Layer {
    std::size_t values = 0;    // taken in this pass
    std::uint64_t digest = 0;  // of the rows they belong to
    friend bool operator==(const Layer&, const Layer&) = default;
  };

  State(const Geometry& geometry, std::size_t limit)
      : heads(geometry.query_heads),
        most_bytes(limit),
        slab_bytes(slab_values * geometry.layers * sizeof(std::uint16_t)),
        layers(geometry.layers),
        here(geometry.layers),
        beside(geometry.layers),
        thread([this](const std::stop_token& stop) { serve(stop); }) {}

  AlignedBuffer take_slab() {
    std::unique_lock lock(mutex);
    const auto may_allocate = [&] { return allocated + slab_bytes <= most_bytes; };
    expects(!free.empty() || may_allocate() || !waiting.empty() || busy,
            "ExactGram: one pass needs more memory than is allowed; pass fewer rows at once");
    changed.wait(lock, [&] { return !free.empty() || may_allocate() || (waiting.empty() && !busy); });
    if (!free.empty()) {
      auto slab = std::move(free.back());
      free.pop_back();
      return slab;
    }
    expects(may_allocate(), "ExactGram: one pass needs more memory than is allowed; pass fewer rows at once");
    AlignedBuffer slab(slab_bytes);
    allocated += slab_bytes;
    return slab;
  }

  void complete() {
    for (const auto& layer : layers)
      expects(layer == layers.front(), "ExactGram: the layers must get the same rows in the same order");
    detail::finish_packing();
    filling.values = layers.front().values;
    std::fill(layers.begin(), layers.end(), Layer{});
    if (std::exchange(queries, 0) == 1) {
      while (!filling.slabs.empty()) {
        auto slab = reduce_slab(filling, here);
        const std::lock_guard lock(mutex);
        free.push_back(std::move(slab));
      }
    } else {
      {
        const std::lock_guard lock(mutex);
        waiting.push_back(std::move(filling));
      }
      filling = {};
      changed.notify_all();
    }
  }

  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (changed.wait(lock, stop, [&] { return !waiting.empty(); })) {
      Block block = std::move(waiting.front());
      waiting.pop_front();
      busy = true;
      while (!block.slabs.empty()) {  // each slab is free for the next block as soon as it is reduced
        lock.unlock();
        auto slab = reduce_slab(block, beside);
        lock.lock();
        free.push_back(std::move(slab));
        changed.notify_all();
      }
      busy = false;
      changed.notify_all();
    }
  }

  const std::size_t heads;
  const std::size_t most_bytes;
  const std::size_t slab_bytes;
  std::vector<Layer> layers;
  std::size_t queries = 0;  // of this pass
  Block filling;
  GramReducer here;  // what the calling thread reduced

  std::mutex mutex;  // guards the rest; `beside` is the thread's alone while it is busy
  std::condition_variable_any changed;
  std::deque<Block> waiting;
  bool busy = false;
  std::vector<AlignedBuffer> free;
  std::size_t allocated = 0;
  GramReducer beside;  // what the thread reduced

  std::jthread thread;  // the last member: it starts when all else is there and is joined first
};

ExactGram::ExactGram(const Geometry& geometry, std::size_t most_bytes) {
  expects(geometry.layers > 0 && geometry.query_heads > 0, "ExactGram: no layers or heads");
  state_ = std::make_unique<State>(geometry, most_bytes);
}
ExactGram::ExactGram(ExactGram&&) noexcept = default;
ExactGram& ExactGram::operator=(ExactGram&&) noexcept = default;
ExactGram::~ExactGram() = default;

void ExactGram::add(const AttentionRow& row) {
  auto& state = *state_;
  expects(row.layer < state.layers.size(), "ExactGram: no such layer");
  expects(row.weights.size() > row.query, "ExactGram: a row without the weights of all its keys");
  auto& layer = state.layers[row.layer];
  const std::size_t padded = whole_units(row.query + std::size_t{1});
  auto weights = row.weights.first(std::min(row.weights.size(), padded));
  for (std::size_t k = 0, count; k < padded; k += count) {
    const std::size_t at = layer.values + k;
    if (at / slab_values == state.filling.slabs.size()) state.filling.slabs.push_back(state.take_slab());
    const std::size_t segment = at % slab_values / segment_values, within = at % segment_values;
    count = std::min(padded - k, segment_values - within);
    std::uint16_t* const to = state.filling.slabs[at / slab_values].as<std::uint16_t>().data() +
                              (segment * state.layers.size() + row.layer) * segment_values + within;
    const auto part = weights.first(std::min(count, weights.size()));
    detail::pack_weights(part, count, to);
    weights = weights.subspan(part.size());
  }
  layer.values += padded;
  layer.digest = detail::mix(layer.digest + row.query * state.heads + row.head);
  if (row.layer == 0 && row.head == 0) ++state.queries;
}

void ExactGram::end_block(std::size_t layer) {
  auto& state = *state_;
  expects(layer < state.layers.size(), "ExactGram: no such layer");
  const std::size_t taken = state.layers[layer].values, first = state.layers.front().values;
  expects(taken <= first, "ExactGram: the layers must get the same rows in the same order");
  if (layer + 1 == state.layers.size() && taken == first && taken > 0) state.complete();
}

void ExactGram::collect(std::span<double> squared) {
  auto& state = *state_;
  expects(squared.size() == state.layers.size() * state.layers.size(),
          "ExactGram: squared distances of another number of layers");
  expects(state.layers.front().values == 0, "ExactGram: a pass is not complete");
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.waiting.empty() && !state.busy; });
  state.here.collect(squared);
  state.beside.collect(squared);
}

std::size_t ExactGram::block_rows(Position next) const {
  const auto& state = *state_;
  const std::size_t half = state.most_bytes / 2, usable = half - std::min(half, state.slab_bytes);
  const std::size_t keys = whole_units(next + most_block_rows);
  const std::size_t row_bytes = state.layers.size() * state.heads * keys * sizeof(std::uint16_t);
  return std::clamp<std::size_t>(usable / row_bytes, 1, most_block_rows);
}

std::size_t ExactGram::bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->allocated;
}

}  // namespace krul
