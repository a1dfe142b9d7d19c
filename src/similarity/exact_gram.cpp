#include "krul/similarity/exact_gram.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "gram_reducer.hpp"
#include "krul/core/aligned_buffer.hpp"
#include "krul/core/error.hpp"
#include "krul/similarity/detail/mix.hpp"

namespace krul {
namespace {

using detail::Cell;
using detail::cell_bins;
using detail::cell_keys;
using detail::GramReducer;

constexpr std::size_t chunk_cells = 256;  // of all layers: some megabytes, so that large pages serve them

constexpr std::size_t whole_chunks(std::size_t cells) {
  return (cells + chunk_cells - 1) / chunk_cells * chunk_cells;
}

/// The weights of all layers of one block of query rows.
struct Block {
  std::deque<AlignedBuffer> chunks;  // each values, factors and bins, as LentWeights::Chunk
  std::vector<Cell> cells;
  std::size_t reduced = 0;  // chunks that are gone
};

}  // namespace

struct ExactGram::State {
  struct Layer {
    std::size_t cells = 0;     // taken in this pass
    std::uint64_t digest = 0;  // of the rows they belong to
    friend bool operator==(const Layer&, const Layer&) = default;
  };

  State(const Geometry& geometry, const ExactGramOptions& chosen)
      : heads(geometry.query_heads),
        options(chosen),
        values_bytes(chunk_cells * geometry.layers * cell_keys * sizeof(std::uint16_t)),
        chunk_bytes(values_bytes + chunk_cells * geometry.layers * (1 + cell_bins) * sizeof(float)),
        layers(geometry.layers),
        here(geometry.layers),
        beside(geometry.layers),
        thread([this](const std::stop_token& stop) { serve(stop); }) {}

  AlignedBuffer take_chunk() {
    std::unique_lock lock(mutex);
    const auto may_allocate = [&] { return allocated + chunk_bytes <= options.most_bytes; };
    expects(!free.empty() || may_allocate() || !waiting.empty() || busy,
            "ExactGram: one pass needs more memory than is allowed; pass fewer rows at once");
    changed.wait(lock, [&] { return !free.empty() || may_allocate() || (waiting.empty() && !busy); });
    if (!free.empty()) {
      auto chunk = std::move(free.back());
      free.pop_back();
      return chunk;
    }
    expects(may_allocate(), "ExactGram: one pass needs more memory than is allowed; pass fewer rows at once");
    AlignedBuffer chunk(chunk_bytes);
    allocated += chunk_bytes;
    return chunk;
  }

  [[nodiscard]] LentWeights::Chunk parts(const AlignedBuffer& chunk) const {
    auto* const factors = reinterpret_cast<float*>(chunk.data() + values_bytes);
    return {chunk.as<std::uint16_t>().data(), factors, factors + chunk_cells * layers.size()};
  }

  /// Makes the block that is filled at least so long.
  void reach(std::size_t cells) {
    if (filling.cells.size() < cells) filling.cells.resize(cells);
    while (filling.chunks.size() * chunk_cells < cells) filling.chunks.push_back(take_chunk());
  }

  void note_row(Layer& layer, Position query, std::size_t head) const {
    layer.digest = detail::mix(layer.digest + query * heads + head);
  }

  /// Takes the first chunk of a block and its weights.
  AlignedBuffer reduce_chunk(Block& block, GramReducer& into) const {
    AlignedBuffer chunk = std::move(block.chunks.front());
    block.chunks.pop_front();
    const auto cells = std::span<const Cell>(block.cells).subspan(chunk_cells * block.reduced++);
    into.add(parts(chunk), cells.first(std::min(cells.size(), chunk_cells)));
    return chunk;
  }

  void complete() {
    for (const auto& layer : layers)
      expects(layer == layers.front(), "ExactGram: the layers must get the same rows in the same order");
    detail::similarity_loops(instruction_level()).finish_packing();
    std::fill(layers.begin(), layers.end(), Layer{});
    Block block = std::exchange(filling, {});
    if (std::exchange(queries, 0) == 1) {
      while (!block.chunks.empty()) {
        auto chunk = reduce_chunk(block, here);
        const std::lock_guard lock(mutex);
        free.push_back(std::move(chunk));
      }
    } else {
      {
        const std::lock_guard lock(mutex);
        waiting.push_back(std::move(block));
      }
      changed.notify_all();
    }
  }

  void serve(const std::stop_token& stop) {
    std::unique_lock lock(mutex);
    while (changed.wait(lock, stop, [&] { return !waiting.empty(); })) {
      Block block = std::move(waiting.front());
      waiting.pop_front();
      busy = true;
      std::size_t left = block.chunks.size();
      try {
        for (; left > 0; --left) {  // each chunk is free for the next block as soon as it is reduced
          lock.unlock();
          auto chunk = reduce_chunk(block, beside);
          lock.lock();
          free.push_back(std::move(chunk));
          changed.notify_all();
        }
      } catch (...) {
        if (!lock.owns_lock()) lock.lock();
        failure = std::current_exception();
        allocated -= left * chunk_bytes;
      }
      busy = false;
      changed.notify_all();
    }
  }

  /// Waits until nothing is left to be reduced beside.
  /// @throws what the thread met
  void wait_for_all() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return waiting.empty() && !busy; });
    if (failure) std::rethrow_exception(std::exchange(failure, nullptr));
  }

  const std::size_t heads;
  const ExactGramOptions options;
  const std::size_t values_bytes;  // of a chunk's values; its factors and bins follow
  const std::size_t chunk_bytes;
  std::vector<Layer> layers;
  std::size_t queries = 0;  // of this pass
  Block filling;
  std::vector<LentWeights::Chunk> lent;  // what the last room refers to
  std::vector<std::uint32_t> row_cells;  // likewise
  GramReducer here;                      // what the calling thread reduced

  std::mutex mutex;  // guards the rest; `beside` is the thread's alone while it is busy
  std::condition_variable_any changed;
  std::deque<Block> waiting;
  bool busy = false;
  std::exception_ptr failure;  ///< of the thread; its caller has not heard of it yet
  std::vector<AlignedBuffer> free;
  std::size_t allocated = 0;
  GramReducer beside;  // what the thread reduced

  std::jthread thread;  // the last member: it starts when all else is there and is joined first
};

ExactGram::ExactGram(const Geometry& geometry, const ExactGramOptions& options) {
  expects(geometry.layers > 0 && geometry.query_heads > 0, "ExactGram: no layers or heads");
  expects(options.negligible >= 0 && options.negligible <= 1, "ExactGram: negligible weights must lie in [0, 1]");
  expects(options.most_rows > 0, "ExactGram: blocks of at least one row");
  state_ = std::make_unique<State>(geometry, options);
}
ExactGram::ExactGram(ExactGram&&) noexcept = default;
ExactGram& ExactGram::operator=(ExactGram&&) noexcept = default;
ExactGram::~ExactGram() = default;

void ExactGram::add(const AttentionRow& row) {
  auto& state = *state_;
  expects(row.layer < state.layers.size(), "ExactGram: no such layer");
  expects(row.weights.size() > row.query, "ExactGram: a row without the weights of all its keys");
  auto& layer = state.layers[row.layer];
  for (std::size_t number = 0; number <= row.query / cell_keys; ++number, ++layer.cells) {
    const std::size_t count = LentWeights::written(row.query, number);
    state.reach(layer.cells + 1);
    state.filling.cells[layer.cells] = {static_cast<std::uint16_t>(count), static_cast<std::uint16_t>(number)};
    const auto chunk = state.parts(state.filling.chunks[layer.cells / chunk_cells]);
    const std::size_t at = layer.cells % chunk_cells * state.layers.size() + row.layer;
    const auto weights = row.weights.subspan(number * cell_keys);
    detail::similarity_loops(instruction_level())
        .pack_weights(weights.data(), std::min(count, weights.size()), count, chunk.values + at * cell_keys);
    chunk.factors[at] = 1;
    std::fill_n(chunk.bins + at * cell_bins, cell_bins, 0.0F);  // whoever has the rows has summed them up
  }
  state.note_row(layer, row.query, row.head);
  if (row.layer == 0 && row.head == 0) ++state.queries;
}

LentWeights ExactGram::lend(std::size_t layer_number, std::span<const Position> queries) {
  auto& state = *state_;
  expects(layer_number < state.layers.size(), "ExactGram: no such layer");
  expects(!queries.empty() && std::is_sorted(queries.begin(), queries.end()), "ExactGram: room for no rows");
  auto& layer = state.layers[layer_number];
  state.row_cells.assign(1, 0);
  for (const Position query : queries)
    state.row_cells.push_back(state.row_cells.back() + static_cast<std::uint32_t>(query / cell_keys + 1));
  const std::size_t begin = whole_chunks(layer.cells);
  layer.cells = begin + state.heads * state.row_cells.back();
  if (layer_number == 0) {
    state.reach(layer.cells);
    state.queries += queries.size();
    Cell* cell = &state.filling.cells[begin];
    for (std::size_t head = 0; head < state.heads; ++head)
      for (const Position query : queries)
        for (std::size_t number = 0; number <= query / cell_keys; ++number)
          *cell++ = {static_cast<std::uint16_t>(LentWeights::written(query, number)),
                     static_cast<std::uint16_t>(number)};
  }
  expects(layer.cells <= state.filling.cells.size(), "ExactGram: the layers must get the same rows in the same order");
  for (const Position query : queries) state.note_row(layer, query, state.heads);
  state.lent.clear();
  for (std::size_t chunk = begin / chunk_cells; chunk * chunk_cells < layer.cells; ++chunk)
    state.lent.push_back(state.parts(state.filling.chunks[chunk]));
  LentWeights room;
  room.layer = layer_number;
  room.layers = state.layers.size();
  room.cells = state.row_cells;
  room.chunk_cells = chunk_cells;
  room.chunks = state.lent;
  room.negligible = state.options.negligible;
  room.read_soon = queries.size() == 1;
  return room;
}

void ExactGram::end_block(std::size_t layer) {
  auto& state = *state_;
  expects(layer < state.layers.size(), "ExactGram: no such layer");
  const std::size_t taken = state.layers[layer].cells, first = state.layers.front().cells;
  expects(taken <= first, "ExactGram: the layers must get the same rows in the same order");
  if (layer + 1 == state.layers.size() && taken == first && taken > 0) state.complete();
}

void ExactGram::finish() {
  auto& state = *state_;
  expects(state.layers.front().cells == 0, "ExactGram: a pass is not complete");
  state.wait_for_all();
}

void ExactGram::collect(std::span<double> squared) {
  auto& state = *state_;
  expects(squared.size() == state.layers.size() * state.layers.size(),
          "ExactGram: squared distances of another number of layers");
  finish();
  state.here.collect(squared);
  state.beside.collect(squared);
}

void ExactGram::collect_masses(std::span<double> mass) {
  auto& state = *state_;
  expects(mass.size() % state.layers.size() == 0, "ExactGram: masses of another number of layers");
  finish();
  state.here.collect_masses(mass);
  state.beside.collect_masses(mass);
}

std::size_t ExactGram::block_rows(Position next) const {
  const auto& state = *state_;
  const std::size_t chunks = state.options.most_bytes / 2 / state.chunk_bytes;
  const std::size_t row_cells = state.heads * ((next + state.options.most_rows - 1) / cell_keys + 1);
  return std::clamp<std::size_t>(chunks * chunk_cells / row_cells, 1, state.options.most_rows);
}

std::size_t ExactGram::bytes() const {
  const std::lock_guard lock(state_->mutex);
  return state_->allocated;
}

}  // namespace krul
