#pragma once

// What a CpuBackend holds, and the parts of a pass that its steps share.

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/aligned_buffer.hpp"
#include "krul/core/finite.hpp"
#include "krul/core/workers.hpp"
#include "krul/model/attention.hpp"
#include "krul/model/cpu_backend.hpp"
#include "krul/model/decoder_file.hpp"
#include "krul/model/detail/cpu_team.hpp"
#include "krul/model/detail/pool.hpp"
#include "krul/model/layer_ops.hpp"

namespace krul {

template <MatrixKernels K>
struct CpuBackend<K>::State {
  struct Layer {
    std::vector<float> attention_norm, mlp_norm;  // [hidden]
    std::vector<float> bias;                      // [(H + 2 G) * D], or empty
    typename K::Packed query_key_value;           // [(H + 2 G) * D, hidden]
    typename K::Packed output;                    // [hidden, H * D]
    typename K::Packed gate_up;                   // [2 * whole panels of mlp, hidden], see interleaved
    typename K::Packed down;                      // [hidden, mlp]
  };
  /// Activations of one tile, in the kernels' input type but for the keys and values.
  struct TileBuffers {
    AlignedBuffer input;       // [tile_rows, widest depth]
    AlignedBuffer activated;   // [tile_rows, mlp]
    AlignedBuffer key_values;  // [tile_rows, 2 * G * D] f32
  };
  /// What one worker has for itself.
  struct WorkerRoom {
    AlignedBuffer row;      // [widest depth] f32
    AlignedBuffer product;  // [tile_rows, block_columns] f32
    TileBuffers tile;
    typename K::Scratch kernels;
  };

  /// The first rows of a buffer.
  struct RowsOf {
    const AlignedBuffer& buffer;
    std::size_t count;
    std::size_t layer;  ///< that they go into; the number of layers: into the logits
  };

  GgufFile file;
  DecoderFile model;
  K kernels;
  Identity identity;
  Workers workers;
  BlockAttention attention;
  LayerOps ops;
  RotaryTable rotary;
  std::vector<float> output_norm;
  AlignedBuffer weights;  // of all matrices
  std::vector<Layer> layers;
  typename K::Packed output;
  std::vector<WorkerRoom> rooms;  // by worker; only used inside a task
  detail::Pool<TileBuffers> shared;
  std::shared_ptr<HostKvMemory> cache_memory = std::make_shared<HostKvMemory>();
  detail::Pool<AlignedBuffer> observed;  // attention weights on their way to an observer

  State(GgufFile from, DecoderFile description, K with, std::size_t threads)
      : file(std::move(from)),
        model(std::move(description)),
        kernels(std::move(with)),
        workers(threads),
        attention(model.geometry, threads, kernels.precision()),
        rotary(model.geometry.rotary, model.geometry.context) {
    for (std::size_t worker = 0; worker < threads; ++worker) {
      rooms.push_back({AlignedBuffer(widest() * sizeof(float)),
                       AlignedBuffer(detail::tile_rows * block_columns * sizeof(float)),
                       {},
                       kernels.make_scratch()});
      reserve(rooms.back().tile);
    }
  }

  [[nodiscard]] std::size_t query_width() const { return model.geometry.query_heads * model.geometry.head_dim; }
  [[nodiscard]] std::size_t widest() const { return std::max({model.geometry.hidden, query_width(), model.mlp}); }

  void reserve(TileBuffers& tile) const {
    tile.input.reserve(detail::tile_rows * kernels.row_bytes(std::max(model.geometry.hidden, query_width())));
    tile.activated.reserve(detail::tile_rows * kernels.row_bytes(model.mlp));
    tile.key_values.reserve(detail::tile_rows * 2 * model.geometry.kv_values() * sizeof(float));
  }

  [[nodiscard]] Status load_weights(const std::string& tokenizer);

  // ---- a pass ----

  /// Cuts rows into tiles and calls step(first, count, team, buffers) for each.
  template <class Step>
  void by_tiles(std::size_t rows, bool together, Step&& step) {
    constexpr std::size_t fewest = 32;  // rows of a tile; below, reading the weights takes longer than multiplying
    const std::size_t threads = workers.threads();
    if (together || rows < fewest * threads || threads == 1) {
      const auto lease = shared.borrow();
      reserve(*lease);
      for (std::size_t first = 0; first < rows; first += detail::tile_rows)
        step(first, std::min(detail::tile_rows, rows - first), detail::TogetherOnTile{&workers}, *lease);
      return;
    }
    // As many tiles as fill whole rounds of the team, all but the last of one height.
    const std::size_t rounds = (rows + threads * detail::tile_rows - 1) / (threads * detail::tile_rows);
    const std::size_t even = (rows + threads * rounds - 1) / (threads * rounds);
    const std::size_t height = std::min((even + 7) / 8 * 8, detail::tile_rows);
    workers.parallel_for((rows + height - 1) / height, [&](std::size_t tile, std::size_t worker) {
      const std::size_t first = tile * height;
      step(first, std::min(height, rows - first), detail::AloneOnTile{worker}, rooms[worker].tile);
    });
  }

  /// input rows * packed, handed to take(PanelRange, RowRange, y) block by block, y [rows, columns of the panels].
  template <class Team, class Take>
  void multiply(const Team& team, const typename K::Packed& packed, const RowsOf& input, std::size_t unit,
                Take&& take) {
    const std::size_t row_bytes = kernels.row_bytes(packed.depth());
    team.panels(panels_of(packed.columns()), unit, [&](PanelRange panels, std::size_t worker) {
      const auto y = rooms[worker].product.template as<float>();
      for (RowRange rows{0, 0}; rows.begin < input.count; rows.begin = rows.end) {
        rows.end = std::min(rows.begin + kernels.block_rows(), input.count);
        kernels.multiply(packed, panels, {input.buffer.data() + rows.begin * row_bytes, rows.size() * row_bytes}, y,
                         rooms[worker].kernels);
        take(panels, rows, y);
      }
    });
  }

  /// A prepared row of that depth.
  [[nodiscard]] std::span<std::byte> row_of(const AlignedBuffer& rows, std::size_t row, std::size_t depth) const {
    const std::size_t bytes = kernels.row_bytes(depth);
    return {rows.data() + row * bytes, bytes};
  }

  /// @throws NotFiniteError, naming the layer, unless the row is finite: int8 has no word for what is not, and would go
  ///         on with something else
  void require_finite_row(std::span<const float> row, std::size_t layer) const {
    if (are_finite(row)) return;
    throw NotFiniteError((layer < layers.size() ? "the numbers of layer " + std::to_string(layer)
                                                : std::string("the numbers behind the last layer")) +
                         " are not finite: the model's weights are damaged, or too large for this precision; try f32, "
                         "or fetch the model anew");
  }

  /// input = norm of the first `count` rows, for a product with a matrix.
  /// @throws NotFiniteError if a norm is not finite
  template <class Team>
  void norm_rows(const Team& team, std::span<const float> hidden, std::span<const float> weight,
                 const typename K::Packed& packed, const RowsOf& input) {
    const std::size_t width = weight.size();
    team.rows(input.count, [&](std::size_t row, std::size_t worker) {
      const auto normed = rooms[worker].row.template as<float>().first(width);
      ops.rms_norm(hidden.subspan(row * width, width), weight, model.norm_epsilon, normed);
      require_finite_row(normed, input.layer);
      kernels.prepare(packed, normed, 0, row_of(input.buffer, row, width));
    });
  }

  /// hidden += input * packed
  template <class Team>
  void add_product(const Team& team, const typename K::Packed& packed, const RowsOf& input, std::span<float> hidden) {
    const std::size_t width = packed.columns();
    multiply(team, packed, input, 1, [&](PanelRange panels, RowRange rows, std::span<const float> y) {
      const std::size_t stride = panels.size() * panel_columns, begin = panels.begin * panel_columns,
                        end = std::min(panels.end * panel_columns, width);
      for (std::size_t row = rows.begin; row < rows.end; ++row)
        ops.add(hidden.subspan(row * width + begin, end - begin), y.subspan((row - rows.begin) * stride, end - begin));
    });
  }
};

}  // namespace krul
