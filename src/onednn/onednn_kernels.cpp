#include "krul/model/onednn_kernels.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "krul/core/aligned_buffer.hpp"
#include "krul/core/processor.hpp"
#include "krul/model/detail/panels.hpp"

namespace krul {
namespace {

constexpr std::array<std::size_t, 8> tile_rows = {128, 64, 32, 16, 8, 4, 2, 1};

/// oneDNN asks OpenMP how many threads it may use, when a primitive is made and when it runs. Here the answer is one,
/// for this thread and as long as this object lives.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

dnnl::memory::dim dim(std::size_t value) {
  return static_cast<dnnl::memory::dim>(value);
}

dnnl::memory::desc rows_desc(std::size_t rows, std::size_t width, std::size_t stride, dnnl::memory::data_type type) {
  return {{dim(rows), dim(width)}, type, dnnl::memory::dims{dim(stride), 1}};
}

}  // namespace

/// For each height of a tile and number of panels one primitive: [tile][panels - 1].
struct OnednnKernels::Primitives {
  struct One {
    dnnl::matmul matmul;
    dnnl::memory::desc rows, weights, product, scratchpad;
  };
  bool in_line = false;  ///< a run of panels is one matrix; else a primitive does one panel of the run at a time
  std::size_t panel_bytes = 0;
  std::array<std::array<One, block_panels>, tile_rows.size()> at;
};

struct OnednnKernels::Shared {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::memory::data_type type = dnnl::memory::data_type::f32;
  LayerOps ops;
  std::mutex mutex;
  std::map<std::size_t, std::shared_ptr<const Primitives>> of_depth;

  /// @param weights  [depth, columns] in the layout to use
  /// @param stride   between two rows of the product
  Primitives::One make(std::size_t rows, const dnnl::memory::desc& weights, std::size_t stride) {
    const auto extents = weights.dims();
    const auto depth = static_cast<std::size_t>(extents[0]), columns = static_cast<std::size_t>(extents[1]);
    const auto source = rows_desc(rows, depth, depth, type);
    const auto product = rows_desc(rows, columns, stride, dnnl::memory::data_type::f32);
    dnnl::primitive_attr attributes;  // the caller brings the scratchpad, so that threads can share a primitive
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc chosen({source, weights, product}, attributes, engine);
    return {dnnl::matmul(chosen), source, chosen.weights_desc(), product, chosen.scratchpad_desc()};
  }

  /// The layout that oneDNN likes best for so many panels.
  dnnl::memory::desc best_layout(std::size_t depth, std::size_t panels) {
    const std::size_t columns = panels * panel_columns;
    const dnnl::memory::desc any({dim(depth), dim(columns)}, type, dnnl::memory::format_tag::any);
    return make(tile_rows[0], any, columns).weights;
  }

  std::shared_ptr<const Primitives> primitives(std::size_t depth) {
    const std::lock_guard lock(mutex);
    auto& found = of_depth[depth];
    if (found == nullptr) found = make_all(depth);
    return found;
  }

  std::shared_ptr<const Primitives> make_all(std::size_t depth) {
    const OneThread guard;
    auto all = std::make_shared<Primitives>();
    const auto panel = best_layout(depth, 1), block = best_layout(depth, block_panels);
    const auto part = [&](std::size_t panels) {
      return block.submemory_desc({dim(depth), dim(panels * panel_columns)}, {0, 0});
    };
    all->panel_bytes = panel.get_size();
    all->in_line = part(1) == panel && block.get_size() == block_panels * panel.get_size();
    for (std::size_t tile = 0; tile < tile_rows.size(); ++tile)
      for (std::size_t panels = 1; panels <= block_panels; ++panels)
        all->at[tile][panels - 1] = make(tile_rows[tile], all->in_line ? part(panels) : panel, panels * panel_columns);
    return all;
  }
};

struct OnednnKernels::Scratch::State {
  struct Arguments {
    dnnl::memory rows, weights, product, scratchpad;
  };
  using Table = std::array<std::array<Arguments, block_panels>, tile_rows.size()>;

  dnnl::stream stream;
  std::vector<std::pair<std::shared_ptr<const Primitives>, std::unique_ptr<Table>>> tables;
  AlignedBuffer scratchpad;

  /// The memory objects that belong to these primitives; made at the first use.
  Table& arguments(const std::shared_ptr<const Primitives>& primitives, const dnnl::engine& engine) {
    for (auto& [of, table] : tables)
      if (of == primitives) return *table;
    auto table = std::make_unique<Table>();
    for (std::size_t tile = 0; tile < tile_rows.size(); ++tile)
      for (std::size_t panels = 0; panels < block_panels; ++panels) {
        const auto& one = primitives->at[tile][panels];
        (*table)[tile][panels] = {{one.rows, engine, nullptr},
                                  {one.weights, engine, nullptr},
                                  {one.product, engine, nullptr},
                                  {one.scratchpad, engine, nullptr}};
        scratchpad.reserve(one.scratchpad.get_size());
      }
    tables.emplace_back(primitives, std::move(table));
    return *tables.back().second;
  }
};

OnednnKernels::Scratch::Scratch() = default;
OnednnKernels::Scratch::Scratch(Scratch&&) noexcept = default;
OnednnKernels::Scratch& OnednnKernels::Scratch::operator=(Scratch&&) noexcept = default;
OnednnKernels::Scratch::~Scratch() = default;

Result<OnednnKernels> OnednnKernels::make(Precision precision) {
  if (precision == Precision::int8)
    return fail(ErrorCode::unsupported, "the onednn kernels have no int8: use the krul kernels");
  if (precision == Precision::bf16 && !includes(Processor::detect().level(), InstructionLevel::avx512_bf16))
    return fail(ErrorCode::unsupported,
                "this processor has no AVX512-BF16 instructions: use precision f32 (available: f32)");
  auto shared = std::make_shared<Shared>();
  if (precision == Precision::bf16) shared->type = dnnl::memory::data_type::bf16;
  return OnednnKernels(precision, std::move(shared));
}

OnednnKernels::Scratch OnednnKernels::make_scratch() const {
  Scratch scratch;
  scratch.state_ = std::make_unique<Scratch::State>();
  scratch.state_->stream = dnnl::stream(shared_->engine);
  return scratch;
}

std::size_t OnednnKernels::packed_bytes(const MatrixShape& shape) const {
  return panels_of(shape.columns) * shared_->primitives(shape.depth)->panel_bytes;
}

OnednnKernels::Packed OnednnKernels::make_packed(const MatrixShape& shape, std::span<std::byte> memory) const {
  expects(memory.size() >= packed_bytes(shape), "make_packed: the memory is too small");
  Packed packed;
  packed.columns_ = shape.columns;
  packed.depth_ = shape.depth;
  packed.primitives_ = shared_->primitives(shape.depth);
  packed.weights_ = memory.data();
  return packed;
}

void OnednnKernels::pack(Packed& packed, std::size_t panel, const WeightRows& weights, Scratch& scratch) const {
  detail::check_pack(packed, panel, weights);
  const OneThread guard;
  const std::size_t depth = packed.depth_, panel_values = panel_columns * depth;
  const dnnl::memory::desc plain({dim(depth), dim(panel_columns)}, dnnl::memory::data_type::f32,
                                 dnnl::memory::format_tag::ba);
  std::vector<float> last;  // the last panel, filled up with zeros
  for (std::span<const float> left = weights.values; !left.empty(); ++panel) {
    std::span<const float> from = left.first(std::min(panel_values, left.size()));
    left = left.subspan(from.size());
    if (from.size() < panel_values) {
      last.assign(panel_values, 0.0F);
      std::copy(from.begin(), from.end(), last.begin());
      from = last;
    }
    dnnl::memory source(plain, shared_->engine, const_cast<float*>(from.data()));
    dnnl::memory target(packed.primitives_->at[0][0].weights, shared_->engine,
                        packed.weights_ + panel * packed.primitives_->panel_bytes);
    dnnl::reorder(source, target).execute(scratch.state_->stream, source, target);
  }
  scratch.state_->stream.wait();
}

void OnednnKernels::prepare(const Packed&, std::span<const float> values, std::size_t first,
                            std::span<std::byte> row) const {
  detail::prepare_plain(shared_->ops, input_type(), values, first, row);
}

void OnednnKernels::multiply(const Packed& packed, PanelRange panels, std::span<const std::byte> rows,
                             std::span<float> y, Scratch& scratch) const {
  const std::size_t one_row = row_bytes(packed.depth_);
  std::size_t left = detail::check_multiply(packed, panels, one_row, rows.size(), y.size());
  const OneThread guard;
  auto& state = *scratch.state_;
  const auto& primitives = *packed.primitives_;
  auto& table = state.arguments(packed.primitives_, shared_->engine);
  auto* x = const_cast<std::byte*>(rows.data());
  float* product = y.data();
  const std::size_t step = primitives.in_line ? panels.size() : 1;
  for (std::size_t tile = 0; left > 0;) {
    if (tile_rows[tile] > left) {
      ++tile;
      continue;
    }
    const auto& matmul = primitives.at[tile][panels.size() - 1].matmul;
    auto& arguments = table[tile][panels.size() - 1];
    for (std::size_t panel = panels.begin; panel < panels.end; panel += step) {
      arguments.rows.set_data_handle(x, state.stream);
      arguments.weights.set_data_handle(packed.weights_ + panel * primitives.panel_bytes, state.stream);
      arguments.product.set_data_handle(product + (panel - panels.begin) * panel_columns, state.stream);
      arguments.scratchpad.set_data_handle(state.scratchpad.data(), state.stream);
      const dnnl_exec_arg_t list[] = {{DNNL_ARG_SRC, arguments.rows.get()},
                                      {DNNL_ARG_WEIGHTS, arguments.weights.get()},
                                      {DNNL_ARG_DST, arguments.product.get()},
                                      {DNNL_ARG_SCRATCHPAD, arguments.scratchpad.get()}};
      dnnl::error::wrap_c_api(
          dnnl_primitive_execute(matmul.get(), state.stream.get(), static_cast<int>(std::size(list)), list),
          "oneDNN could not run a matrix product");
    }
    x += tile_rows[tile] * one_row;
    product += tile_rows[tile] * panels.size() * panel_columns;
    left -= tile_rows[tile];
  }
}

}  // namespace krul
