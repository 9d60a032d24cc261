# pleat_floor(NAME [DEPS targets...]): one folder, one target. Files ending in _avx2.cpp and _avx512.cpp are compiled for
# that instruction set and only called after a run-time check.
function(pleat_floor name)
  cmake_parse_arguments(arg "" "" "DEPS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cpp)
  if(NOT sources)
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${name} INTERFACE ${arg_DEPS})
    return()
  endif()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${arg_DEPS})
  foreach(source ${sources})
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
    elseif(source MATCHES "_avx512\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512vnni;-mavx512bf16;-mprefer-vector-width=512;-Wno-maybe-uninitialized")  # g++ 12 warns inside its own intrinsics
    endif()
  endforeach()
endfunction()

# For what takes longer to optimise than to run.
function(pleat_compile_quickly name)
  target_compile_options(${name} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang>:-O1>)
endfunction()

# Sixteen files a compilation: for those whose time goes into the same headers' templates (nlohmann::json, CLI11, Eigen).
function(pleat_compile_together name)
  if(NOT PLEAT_UNITY)
    return()
  endif()
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  # g++ takes a file that another one includes for a header.
  target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endfunction()

# pleat_tests(NAME DEPS targets... [TOGETHER suites...]): every *_test.cpp of the folder in one GoogleTest program. TOGETHER: suites
# whose set-up takes longer than their tests; each runs as one test of ctest, before the short ones.
function(pleat_tests name)
  cmake_parse_arguments(arg "" "" "DEPS;TOGETHER" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *_test.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${arg_DEPS} GTest::gtest GTest::gtest_main)
  pleat_compile_quickly(${name})
  target_compile_definitions(${name} PRIVATE PLEAT_SOURCE_DIR="${PLEAT_TEST_ROOT}" PLEAT_BUILD_DIR="${PROJECT_BINARY_DIR}")
  include(GoogleTest)
  list(TRANSFORM arg_TOGETHER APPEND ".*" OUTPUT_VARIABLE together)
  list(JOIN together ":" together)
  gtest_discover_tests(${name} TEST_FILTER "*-${together}" DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
  foreach(suite ${arg_TOGETHER})
    add_test(NAME ${suite} COMMAND ${name} --gtest_filter=${suite}.* WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
    set_tests_properties(${suite} PROPERTIES TIMEOUT 600 COST 50)
  endforeach()
endfunction()
