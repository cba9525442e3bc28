;; The inner loops of a convolution, eight patches and four filters at a time, in SIMD
;; instructions of WebAssembly. graph.js gathers the patches and takes the sums out; where
;; WebAssembly is missing it does this work too, more slowly.
;;
;; What is in memory, all of it 32-bit floats, one part right after the other:
;;
;;   patches  [tap][8]                a tap of eight neighbouring patches side by side
;;   sums     [filter][8]             the results
;;   weights  [filter / 4][tap][4]    a tap of four filters side by side
;;
;; The number of filters is a multiple of 4; graph.js fills up with zeros.
;;
;; After a change: python tools/assemble.py
(module
  (memory (export "memory") 1)

  ;; sums[f][p] = the sum over all taps of weights[f][tap] * patches[tap][p]
  (func (export "multiply") (param $taps i32) (param $filters i32)
    (local $patch i32)        ;; addresses of what comes next
    (local $sum i32)
    (local $weight i32)
    (local $sums i32)         ;; where each part begins
    (local $weights i32)
    (local $left v128)        ;; a tap of patches 0 to 3, and of 4 to 7
    (local $right v128)
    (local $w v128)           ;; a weight, four times
    (local $a v128) (local $A v128)   ;; sums of the four filters, a small letter for
    (local $b v128) (local $B v128)   ;; patches 0 to 3, a capital one for 4 to 7
    (local $c v128) (local $C v128)
    (local $d v128) (local $D v128)

    (local.set $sums (i32.mul (local.get $taps) (i32.const 32)))
    (local.set $weights
      (i32.add (local.get $sums) (i32.mul (local.get $filters) (i32.const 32))))
    (local.set $sum (local.get $sums))
    (local.set $weight (local.get $weights))

    (loop $next_filters
      (local.set $patch (i32.const 0))
      (local.set $a (v128.const i32x4 0 0 0 0)) (local.set $A (local.get $a))
      (local.set $b (local.get $a)) (local.set $B (local.get $a))
      (local.set $c (local.get $a)) (local.set $C (local.get $a))
      (local.set $d (local.get $a)) (local.set $D (local.get $a))

      (loop $next_tap
        (local.set $left (v128.load (local.get $patch)))
        (local.set $right (v128.load offset=16 (local.get $patch)))

        (local.set $w (v128.load32_splat (local.get $weight)))
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $w) (local.get $left))))
        (local.set $A (f32x4.add (local.get $A) (f32x4.mul (local.get $w) (local.get $right))))

        (local.set $w (v128.load32_splat offset=4 (local.get $weight)))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $w) (local.get $left))))
        (local.set $B (f32x4.add (local.get $B) (f32x4.mul (local.get $w) (local.get $right))))

        (local.set $w (v128.load32_splat offset=8 (local.get $weight)))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $w) (local.get $left))))
        (local.set $C (f32x4.add (local.get $C) (f32x4.mul (local.get $w) (local.get $right))))

        (local.set $w (v128.load32_splat offset=12 (local.get $weight)))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $w) (local.get $left))))
        (local.set $D (f32x4.add (local.get $D) (f32x4.mul (local.get $w) (local.get $right))))

        (local.set $weight (i32.add (local.get $weight) (i32.const 16)))
        (local.set $patch (i32.add (local.get $patch) (i32.const 32)))
        (br_if $next_tap (i32.lt_u (local.get $patch) (local.get $sums))))

      (v128.store (local.get $sum) (local.get $a))
      (v128.store offset=16 (local.get $sum) (local.get $A))
      (v128.store offset=32 (local.get $sum) (local.get $b))
      (v128.store offset=48 (local.get $sum) (local.get $B))
      (v128.store offset=64 (local.get $sum) (local.get $c))
      (v128.store offset=80 (local.get $sum) (local.get $C))
      (v128.store offset=96 (local.get $sum) (local.get $d))
      (v128.store offset=112 (local.get $sum) (local.get $D))
      (local.set $sum (i32.add (local.get $sum) (i32.const 128)))
      (br_if $next_filters (i32.lt_u (local.get $sum) (local.get $weights))))))
