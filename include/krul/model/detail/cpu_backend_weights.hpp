#pragma once

// Packing the weights of a model file for a CpuBackend's kernels.

#include <algorithm>
#include <exception>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/processor.hpp"
#include "krul/model/detail/cpu_backend_state.hpp"
#include "krul/model/weights_identity.hpp"

namespace krul {
namespace detail {

/// Some columns of a product, from the rows of a tensor; without a tensor they are zero.
struct ColumnRun {
  const GgufTensor* tensor;
  std::size_t first_row;
  std::size_t columns;
};

/// Gate and up take turns panel by panel, so that one run of panels holds both factors of its activations.
inline std::vector<ColumnRun> interleaved(const GgufTensor* gate, const GgufTensor* up, std::size_t columns) {
  std::vector<ColumnRun> runs;
  for (std::size_t first = 0; first < columns; first += panel_columns) {
    const std::size_t count = std::min(panel_columns, columns - first);
    for (const auto* tensor : {gate, up}) {
      runs.push_back({tensor, first, count});
      if (count < panel_columns) runs.push_back({nullptr, 0, panel_columns - count});
    }
  }
  return runs;
}

/// Of four bits where all tensors are.
inline MatrixShape shape_of(std::span<const ColumnRun> runs, std::size_t depth) {
  MatrixShape shape{.columns = 0, .depth = depth, .form = WeightForm::four_bits};
  for (const ColumnRun& run : runs) {
    shape.columns += run.columns;
    if (run.tensor != nullptr && !has_four_bits(run.tensor->type)) shape.form = WeightForm::any;
  }
  return shape;
}

}  // namespace detail

template <MatrixKernels K>
Status CpuBackend<K>::State::load_weights(const std::string& tokenizer) {
  const auto vector = [](const GgufTensor* tensor, std::vector<float>& values) -> Status {
    values.resize(static_cast<std::size_t>(tensor->values()));
    return read_rows(*tensor, 0, values);
  };
  const auto vector_into = [](const GgufTensor* tensor, std::span<float> values) -> Status {
    return tensor != nullptr ? read_rows(*tensor, 0, values) : Status{};
  };
  struct Matrix {
    typename K::Packed* packed;
    std::vector<detail::ColumnRun> runs;
    MatrixShape shape;
    std::size_t offset;  // bytes into the weights
  };
  const Geometry& geometry = model.geometry;
  std::vector<Matrix> matrices;
  const auto add = [&](typename K::Packed& packed, std::size_t depth, std::vector<detail::ColumnRun> runs) {
    const MatrixShape shape = detail::shape_of(runs, depth);
    matrices.push_back({&packed, std::move(runs), shape, 0});
  };

  if (const auto status = vector(model.output_norm, output_norm); !status) return status;
  layers.resize(geometry.layers);
  for (std::size_t l = 0; l < geometry.layers; ++l) {
    const auto& from = model.layers[l];
    auto& layer = layers[l];
    Status status = vector(from.attention_norm, layer.attention_norm);
    if (status) status = vector(from.mlp_norm, layer.mlp_norm);
    if (from.query_bias != nullptr || from.key_bias != nullptr || from.value_bias != nullptr) {
      layer.bias.resize(query_width() + 2 * geometry.kv_values());  // those that the file has not are zero
      const auto bias = std::span(layer.bias);
      if (status) status = vector_into(from.query_bias, bias.first(query_width()));
      if (status) status = vector_into(from.key_bias, bias.subspan(query_width(), geometry.kv_values()));
      if (status) status = vector_into(from.value_bias, bias.last(geometry.kv_values()));
    }
    if (!status) return status;
    add(layer.query_key_value, geometry.hidden,
        {{from.query, 0, query_width()}, {from.key, 0, geometry.kv_values()}, {from.value, 0, geometry.kv_values()}});
    add(layer.output, query_width(), {{from.output, 0, geometry.hidden}});
    add(layer.gate_up, geometry.hidden, detail::interleaved(from.gate, from.up, model.mlp));
    add(layer.down, model.mlp, {{from.down, 0, geometry.hidden}});
  }
  add(output, geometry.hidden, {{model.output, 0, geometry.vocabulary}});

  // All matrices lie in one piece of memory: large pages have no seams then, and reading runs on from one to the next.
  std::size_t bytes = 0;
  for (auto& matrix : matrices) {
    matrix.offset = bytes;
    bytes += (kernels.packed_bytes(matrix.shape) + 63) / 64 * 64;
  }
  weights = AlignedBuffer(bytes);
  for (auto& matrix : matrices)
    *matrix.packed = kernels.make_packed(matrix.shape, weights.template as<std::byte>().subspan(matrix.offset));

  // One task unpacks a block of columns of one matrix, so that little is held as f32 at a time. The hashes are the
  // first.
  struct Task {
    const Matrix* matrix;
    std::size_t block;
  };
  std::vector<Task> tasks{{nullptr, 0}, {nullptr, 1}};
  for (auto matrix = matrices.rbegin(); matrix != matrices.rend(); ++matrix)
    for (std::size_t block = 0; block * block_columns < matrix->packed->columns(); ++block)
      tasks.push_back({&*matrix, block});
  struct Room {
    AlignedBuffer values;              // [block_columns, widest depth] f32
    std::vector<FourBitBlock> blocks;  // [block_columns, widest depth / 32]
  };
  std::vector<Room> room(workers.threads());
  for (auto& own : room) {
    own.values = AlignedBuffer(block_columns * widest() * sizeof(float));
    own.blocks.resize(block_columns * widest() / four_bit_values);
  }
  std::mutex mutex;
  Status first_failure;
  std::exception_ptr thrown;

  const auto unpack = [&](const Task& task, std::size_t worker) -> Status {
    auto& packed = *task.matrix->packed;
    const std::size_t depth = packed.depth(), begin = task.block * block_columns;
    const std::size_t end = std::min(begin + block_columns, packed.columns());
    const bool four_bits = task.matrix->shape.form == WeightForm::four_bits;
    const std::size_t block_depth = four_bits ? depth / four_bit_values : 0;
    const auto values = room[worker].values.template as<float>().first((end - begin) * depth);
    const auto blocks = std::span(room[worker].blocks).first((end - begin) * block_depth);
    std::size_t run_begin = 0;
    for (const auto& run : task.matrix->runs) {
      const std::size_t from = std::max(run_begin, begin), to = std::min(run_begin + run.columns, end);
      if (from < to) {
        const auto part = values.subspan((from - begin) * depth, (to - from) * depth);
        const auto part_blocks = blocks.subspan((from - begin) * block_depth, (to - from) * block_depth);
        const std::size_t row = run.first_row + from - run_begin;
        Status status;
        if (run.tensor != nullptr) {
          status = read_finite_rows(file, *run.tensor, row, part);
          if (status && four_bits) status = read_four_bit_rows(*run.tensor, row, part_blocks);
        } else {
          std::fill(part.begin(), part.end(), 0.0F);
          std::fill(part_blocks.begin(), part_blocks.end(), FourBitBlock{});
        }
        if (!status) return status;
      }
      run_begin += run.columns;
    }
    kernels.pack(packed, task.block * block_panels, {values, blocks}, rooms[worker].kernels);
    return {};
  };
  workers.parallel_for(tasks.size(), [&](std::size_t index, std::size_t worker) {
    try {
      Status status;
      if (tasks[index].matrix == nullptr)
        (tasks[index].block == 0 ? identity.weights : identity.former_weights) =
            tasks[index].block == 0 ? weights_identity(file, model.architecture) : weights_hash(file);
      else
        status = unpack(tasks[index], worker);
      if (status) return;
      const std::lock_guard lock(mutex);
      if (first_failure) first_failure = status;
    } catch (...) {
      const std::lock_guard lock(mutex);
      thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
  if (!first_failure) return first_failure;

  identity.architecture = model.architecture;
  identity.tokenizer = tokenizer;
  identity.geometry = describe(geometry);
  identity.kernels = kernels.name();
  identity.processor = Processor::detect().describe();
  identity.threads = std::to_string(workers.threads());
  return {};
}

}  // namespace krul
